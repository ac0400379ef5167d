import subprocess as sp,sys
def head(p): return sp.run(["git","show","HEAD:"+p],capture_output=True,text=True,check=True).stdout
def sub(s,a,b):
    assert a in s,a
    return s.replace(a,b,1)
def plan(s):
    s=sub(s,'from router.limits import Grant\n','from router.limits import Decision, Grant, Limiter\n')
    s=sub(s,'    #: Why candidates were refused, by name','''    #: What limits said that refused it, by their names, where other routers share them. None: this
    #: router's own say it.
    told: dict[str, tuple[Decision, ...]] | None = None
    #: Why candidates were refused, by name''')
    s=sub(s,'''        if upstream is None:
            if self.problem is None:
                self.problem = self._brain.nothing_fit(self, now)
                if self.explains:
                    self.problem = self._brain.explained(self, self.problem)
            return self.problem
        return self._attempt(upstream, now)
''','''        return self._nobody(now) if upstream is None else self._start(upstream, now)
''')
    s=sub(s,'''    def _attempt(self, upstream: Upstream, now: float) -> Attempt:
''','''    def _nobody(self, now: float) -> Problem:
        """The last word: what became of the attempts, or why there was none."""
        if self.problem is None:
            self.problem = self._brain.nothing_fit(self, now)
            if self.explains:
                self.problem = self._brain.explained(self, self.problem)
        return self.problem

    def _attempt(self, upstream: Upstream, now: float) -> Attempt:
''')
    s=sub(s,'''            self.grant = node.limiter.take(self.envelope.prompt().tokens, now)
''','''            self._hold_provider(node, node.limiter, now)
''')
    s=sub(s,'''            self._brain.hold(self, now)
        self._eventful''','''            self._hold_target(now)
        self._eventful''')
    s=sub(s,'''        return self._attempt(step, now)
''','''        return self._start(step, now)
''')
    s=sub(s,'''    def _made(self, upstream''','''    def _start(self, upstream: Upstream, now: float) -> Step:
        """Where it may wait for what others must say of it first."""
        return self._attempt(upstream, now)

    def _made(self, upstream''')
    s=sub(s,'''    def _tell_limits(self)''','''    def _hold_provider(self, node: Node, limiter: Limiter, now: float) -> None:
        self.grant = limiter.take(self.envelope.prompt().tokens, now)

    def _hold_target(self, now: float) -> None:
        self._brain.hold(self, now)

    def _tell_limits(self)''')
    return s
def picking(s):
    s=sub(s,'''                if why is None and limiter is not None:
                    # The place that its running attempt holds is free before the next begins.
                    mine = plan.grant is not None and plan.node is upstream.node
                    why = limiter.refusal(plan.envelope.prompt().tokens, now, places=mine)
''','''                if why is None and limiter is not None:
                    why = self._refusal(plan, upstream, limiter, now)
''')
    s=sub(s,'''        return self.limiters.refusing(target, plan.grants, plan.envelope.prompt().tokens, now)
''','''        if plan.told is not None:
            return self._refused(plan, target)
        return self.limiters.refusing(target, plan.grants, plan.envelope.prompt().tokens, now)

    def _refused(self, plan: Plan, target: Target) -> tuple[Decision, ...]:
        """What the limits on the way to `target` said when they were asked."""
        told = plan.told
        if not told:
            return ()
        of_target = self.limiters.of_target(target)
        return tuple(d for _, limiter in of_target for d in told.get(limiter.name, ()))

    def _refusal(self, plan: Plan, upstream: Upstream, limiter: Limiter, now: float) -> str | None:
        """Why a provider's limits refuse the request. None: they do not, as far as is known."""
        if plan.told is not None:
            told = plan.told.get(limiter.name)
            return None if told is None else reason(worst(told))
        # The place that its running attempt holds is free before the next begins.
        mine = plan.grant is not None and plan.node is upstream.node
        return limiter.refusal(plan.envelope.prompt().tokens, now, places=mine)
''')
    return sub(s,"from router.limits import Decision\n","from router.limits import Decision, Limiter, reason, worst\n")
def brain(s):
    s=sub(s,"from collections.abc import Callable, Iterator, Mapping\n","from collections.abc import Callable, Iterator, Mapping, Sequence\n")
    s=sub(s,"from router.lives import","from router.limits import Limiter\nfrom router.lives import")
    s=sub(s,"from router.stats import","from router.shares import Shares\nfrom router.sharing import SharedPlan\nfrom router.stats import")
    s=sub(s,'''        if not limiters:
            return
        tokens = plan.envelope.prompt().tokens
''','''        if not limiters:
            return
        if isinstance(plan, SharedPlan):
            plan.meet(limiters)
        else:
            self.take_caller(plan, limiters, now)

    def take_caller(self, plan: Plan, limiters: Sequence[tuple[str, Limiter]], now: float) -> None:
        """Of each of this router's own `limiters`, or have it refused."""
        tokens = plan.envelope.prompt().tokens
''')
    s=sub(s,"        plan = Plan(self, ask, envelope, capability,","        plan = self._make(self, ask, envelope, capability,")
    s=sub(s,'''        self.reconfigure(config, node=node, names=names, hooks=hooks)

''','''        #: Limits that other routers count too. None: each counts its own.
        self.shares: Shares | None = None
        self._make: type[Plan] = Plan
        self.reconfigure(config, node=node, names=names, hooks=hooks)

    def share(self, shares: Shares) -> None:
        """From the next request on."""
        self.shares = shares
        self._make = SharedPlan

''')
    return s
def linter(s):
    s=sub(s," : limiters : limits :"," : limiters : limits : limit_scripts : shares : sharing :")
    s=sub(s," : shared_store :"," : shared_store : shared_limits :")
    s=sub(s,"    router.limiters\n    router.limits\n","    router.limit_scripts\n    router.limiters\n    router.limits\n")
    return sub(s,"    router.seam\n    router.stats\n","    router.seam\n    router.shares\n    router.sharing\n    router.stats\n")
def limits(s):
    t=open("router/limits.py").read()
    a=t.index("def lacks_place"); b=t.index("def describe")
    return t[:a]+t[b:]
def app(s):
    t=open("router/app.py").read()
    return t
F={"router/plan.py":plan,"router/picking.py":picking,"router/brain.py":brain,".importlinter":linter,"router/limits.py":limits}
import os,tempfile
env={**os.environ,"GIT_INDEX_FILE":tempfile.mktemp()}
def git(*a,inp=None):
    r=sp.run(["git",*a],env=env,input=inp,capture_output=True,text=True)
    if r.returncode: sys.exit(f"{a}: {r.stderr}")
    return r.stdout.strip()
git("read-tree","HEAD")
own=sys.argv[2:]
git("add",*own)
for p,f in F.items():
    blob=git("hash-object","-w","--stdin",inp=f(head(p)))
    git("update-index","--cacheinfo",f"100644,{blob},{p}")
if sys.argv[1]=="-":
    print(git("write-tree")); sys.exit()
git("commit","-qm",open(sys.argv[1]).read())
env.pop("GIT_INDEX_FILE"); git("reset","-q","HEAD","--",*own,*F)
print(git("log","--stat","-1"))
