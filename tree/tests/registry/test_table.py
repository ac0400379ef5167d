"""Leases, lives, conflicts, suspects and drain marks as arithmetic: no clock, no socket."""

import pytest

from common.wire.registry import ErrorCode, Health
from registry import commands as ask
from registry.records import Verdict
from registry.state import Put, Terms
from tests.registry.acts import World, codes, is_done, refusal, registration

STALE = (409, ErrorCode.STALE_INSTANCE, None)
NOT_FOUND = (404, ErrorCode.NOT_FOUND, None)


# leases


def test_a_registered_service_is_fit_and_holds_a_lease_of_the_registrys_choosing() -> None:
    world = World(Terms(lease_s=9.0))
    assert is_done(world.post(lease_s=60.0))
    assert world["a"].lease_s == 9.0
    assert (world["a"].health_status, world["a"].is_healthy) == (Health.HEALTHY, True)


def test_a_service_is_fit_until_one_lease_after_its_last_beat() -> None:
    world = World()
    world.post()
    world.after(14.5)
    assert world["a"].is_healthy
    world.after(0.5)
    assert not world["a"].is_healthy
    assert world["a"].health_status is Health.UNHEALTHY
    assert codes(world["a"]) == ["lease_lapsed"]


def test_beats_keep_it_fit_for_ever() -> None:
    world = World()
    world.post()
    for _ in range(100):
        assert is_done(world.after(14).beat(instance_id="a-1"))
    assert world["a"].is_healthy
    assert world["a"].last_heartbeat == "wall 2400"


def test_an_unfit_service_is_removed_five_leases_after_its_last_beat() -> None:
    world = World()
    world.post()
    world.after(74.5)
    assert "a" in world
    world.after(0.5)
    assert "a" not in world
    assert world.news() == ["+a", "+a", "-a"]


def test_a_beat_makes_an_unfit_service_fit_again() -> None:
    world = World()
    world.post()
    world.after(40)
    assert is_done(world.beat())
    assert world["a"].is_healthy
    assert world["a"].reasons == ()


def test_a_record_without_lease_is_unfit_after_120_s_and_removed_after_300() -> None:
    world = World()
    world.post(lease_s=None, instance_id=None)
    assert (world["a"].health_status, world["a"].is_healthy) == (Health.UNKNOWN, True)
    world.after(119.5)
    assert world["a"].is_healthy
    world.after(0.5)
    assert codes(world["a"]) == ["heartbeat_old"]
    world.after(179.5)
    assert "a" in world
    world.after(0.5)
    assert "a" not in world


def test_after_a_start_everybody_gets_one_full_lease_even_those_that_had_lapsed() -> None:
    world = World()
    world.post("a")
    world.post("b", port=8200, lease_s=None)
    world.after(30)
    assert not world["a"].is_healthy
    world = world.again()
    assert world["a"].is_healthy
    world.after(14.5)
    assert world["a"].is_healthy
    world.after(0.5)
    assert not world["a"].is_healthy
    assert world["b"].is_healthy


# what watchers are told


def test_beats_are_not_told_and_bump_nothing() -> None:
    world = World()
    world.post()
    revision = world.table.revision
    world.news()
    for _ in range(10):
        world.after(5).beat(load={"in_flight": 3.0})
    assert world.table.revision == revision
    assert world.news() == []
    assert world.table.loads == {"a": {"in_flight": 3.0}}


@pytest.mark.parametrize(
    "change",
    [
        {"status": "backoff"},
        {"weight": 2.0},
        {"metadata": {"region": "eu"}},
        {"url": "http://10.0.0.1:8100/v2"},
        {"host": "10.0.0.9"},
        {"port": 8199},
        {"hostname": "other"},
    ],
)
def test_what_is_watched_bumps_the_revision_once(change: dict[str, object]) -> None:
    world = World()
    world.post()
    world.news()
    assert is_done(world.put(**change))
    assert world.news() == ["+a"]
    assert world["a"].revision == world.table.revision == 2
    assert is_done(world.put(**change))
    assert world.news() == []


def test_a_beat_with_a_changed_status_or_other_models_is_told() -> None:
    world = World()
    world.post()
    world.news()
    world.beat(status="backoff")
    assert codes(world["a"]) == ["status"]
    assert not world["a"].is_healthy
    world.beat(status="running", models_list=[{"id": "m"}])
    assert world["a"].metadata["models_list"] == [{"id": "m"}]
    assert world["a"].is_healthy
    world.beat(models_list=[{"id": "m"}])
    assert world.news() == ["+a", "+a"]


def test_registering_the_same_again_changes_nothing() -> None:
    world = World()
    world.post()
    before = world.news(), world["a"].timestamp
    world.after(5)
    draft = world.table.draft()
    assert is_done(draft.do(ask.Register(registration()), world.now))
    assert not draft.batch()
    world.post()
    assert (before[0], world["a"].timestamp) == (["+a"], before[1])
    assert world.news() == []


def test_revisions_have_no_gap() -> None:
    world = World()
    world.post("a")
    world.post("b", port=8200)
    world.after(100)
    revisions = [change.revision for change in world.told]
    assert revisions == list(range(1, len(revisions) + 1))


# lives


def test_a_beat_for_an_unknown_name_is_404_so_that_the_babysitter_registers_again() -> None:
    assert refusal(World().beat("a")) == NOT_FOUND


def test_a_new_life_at_the_same_address_replaces_the_old_which_is_retired() -> None:
    world = World()
    world.post(instance_id="old")
    assert is_done(world.post(instance_id="new"))
    assert world["a"].instance_id == "new"
    assert refusal(world.beat(instance_id="old")) == STALE
    assert refusal(world.post(instance_id="old")) == STALE
    assert refusal(world.put(instance_id="old")) == STALE
    assert refusal(world.delete(instance_id="old")) == STALE
    assert is_done(world.beat(instance_id="new"))


def test_a_deleted_life_is_retired_on_every_verb_though_its_name_is_gone() -> None:
    world = World()
    world.post(instance_id="x")
    assert is_done(world.delete(instance_id="x"))
    assert "a" not in world
    assert refusal(world.beat(instance_id="x")) == STALE
    assert refusal(world.post(instance_id="x")) == STALE
    assert refusal(world.put(instance_id="x")) == STALE
    assert refusal(world.delete(instance_id="x")) == STALE
    assert refusal(world.delete()) == NOT_FOUND
    assert is_done(world.post(instance_id="y"))


def test_a_life_stays_retired_for_five_leases_across_a_restart() -> None:
    world = World()
    world.post(instance_id="x")
    world.delete()
    world.after(74.5)
    assert refusal(world.post(instance_id="x")) == STALE
    world = world.again().after(74.5)
    assert refusal(world.post(instance_id="x")) == STALE
    world.after(0.5)
    assert is_done(world.post(instance_id="x"))
    assert world.table.retired == {}


def test_an_expired_life_is_not_retired_and_may_come_back() -> None:
    world = World()
    world.post(instance_id="x")
    world.after(80)
    assert "a" not in world
    assert refusal(world.beat(instance_id="x")) == NOT_FOUND
    assert is_done(world.post(instance_id="x"))


def test_a_beat_of_a_life_that_is_not_the_present_one_is_refused() -> None:
    world = World()
    world.post(instance_id="x")
    assert refusal(world.beat(instance_id="never seen")) == STALE
    assert is_done(world.beat())


def test_a_late_delete_of_an_old_life_spares_the_new_one() -> None:
    world = World()
    world.post(instance_id="old")
    world.post(instance_id="new")
    assert refusal(world.delete(instance_id="old")) == STALE
    assert refusal(world.delete(instance_id="unheard of")) == STALE
    assert "a" in world


def test_a_new_life_starts_without_the_old_ones_load() -> None:
    world = World()
    world.post(instance_id="old")
    world.beat(load={"in_flight": 9.0})
    world.post(instance_id="new")
    assert world.table.loads == {}


# conflicts


def test_a_name_leased_elsewhere_is_refused_and_the_holder_named() -> None:
    world = World()
    world.post()
    expected = (409, ErrorCode.NAME_CONFLICT, "10.0.0.1:8100")
    assert refusal(world.post(host="10.0.0.2", instance_id="b")) == expected
    assert refusal(world.post(host="10.0.0.2", instance_id=None, lease_s=None)) == expected
    assert world["a"].host == "10.0.0.1"


def test_a_name_whose_lease_lapsed_may_be_taken_elsewhere_and_its_holder_is_retired() -> None:
    world = World()
    world.post()
    world.after(15)
    assert is_done(world.post(host="10.0.0.2", instance_id="b"))
    assert world["a"].host == "10.0.0.2"
    assert refusal(world.beat(instance_id="a-1")) == STALE


def test_an_address_leased_under_another_name_is_refused_and_the_holder_named() -> None:
    world = World()
    world.post("a")
    expected = (409, ErrorCode.ADDRESS_CONFLICT, "a")
    assert refusal(world.post("b")) == expected
    assert refusal(world.post("b", host="10.0.0.1", lease_s=None)) == expected


def test_an_address_whose_lease_lapsed_goes_to_the_newcomer_and_the_old_name_is_gone() -> None:
    world = World()
    world.post("a")
    world.after(15)
    world.news()
    assert is_done(world.post("b"))
    assert "a" not in world
    assert world.news() == ["-a", "+b"]
    assert refusal(world.beat("a", instance_id="a-1")) == STALE


def test_hosts_are_compared_without_case() -> None:
    world = World()
    world.post(host="GPU-1")
    assert is_done(world.post(host="gpu-1", instance_id="new"))


def test_a_put_may_move_the_same_life_but_not_onto_another() -> None:
    world = World()
    world.post("a")
    world.post("b", port=8200)
    assert is_done(world.put("a", port=8101, instance_id="a-1"))
    expected = (409, ErrorCode.ADDRESS_CONFLICT, "b")
    assert refusal(world.put("a", port=8200)) == expected
    expected = (409, ErrorCode.NAME_CONFLICT, "10.0.0.1:8101")
    assert refusal(world.put("a", port=8300, instance_id="other")) == expected


def test_records_without_lease_hold_neither_name_nor_address() -> None:
    world = World()
    world.post("a", lease_s=None, instance_id=None)
    assert is_done(world.post("b", lease_s=None, instance_id=None))
    assert is_done(world.post("c"))
    assert is_done(world.post("a", host="10.0.0.2", instance_id="new"))
    assert set(world.table.entries) == {"a", "b", "c"}


def test_a_post_without_instance_id_replaces_a_record_that_has_none() -> None:
    world = World()
    world.post(lease_s=None, instance_id=None)
    assert is_done(world.post(host="10.0.0.2", lease_s=None, instance_id=None, status="x"))
    assert (world["a"].host, world["a"].status) == ("10.0.0.2", "x")
    assert world.table.retired == {}


def test_a_put_counts_as_a_heartbeat_and_keeps_what_it_does_not_say() -> None:
    world = World()
    world.post(metadata={"region": "eu"}, weight=3.0)
    for _ in range(10):
        assert is_done(world.after(14).put(status="running"))
    assert (world["a"].is_healthy, world["a"].weight) == (True, 3.0)
    assert world["a"].metadata == {"region": "eu"}
    assert refusal(world.put("nobody", status="running")) == NOT_FOUND


def test_no_more_services_than_the_limit() -> None:
    world = World(Terms(services_max=2))
    world.post("a", port=1)
    world.post("b", port=2)
    assert refusal(world.post("c", port=3))[0] == 503
    assert is_done(world.post("b", port=2, instance_id="new"))
    world.delete("a")
    assert is_done(world.post("c", port=3))


# suspects


def fleet(count: int) -> World:
    world = World()
    for number in range(count):
        world.post(f"s{number}", port=9000 + number)
    return world


def beat_all(world: World, count: int) -> None:
    for number in range(count):
        world.beat(f"s{number}")


def test_more_than_half_lapsing_within_a_lease_are_suspects_not_dead() -> None:
    world = fleet(4)
    world.after(10)
    beat_all(world, 1)
    world.after(6)
    assert [world[f"s{n}"].health_status.value for n in range(4)] == ["healthy"] + ["suspect"] * 3
    assert not world["s1"].is_healthy
    assert codes(world["s1"]) == ["suspect"]
    assert sorted(world.table.suspects()) == ["s1", "s2", "s3"]


def test_exactly_half_is_no_mass() -> None:
    world = fleet(4)
    world.after(10)
    beat_all(world, 2)
    world.after(5)
    assert world.table.suspects() == []
    assert world["s3"].health_status is Health.UNHEALTHY


def test_three_leases_are_no_mass() -> None:
    world = fleet(3)
    world.after(15)
    assert world.table.suspects() == []


def test_suspects_stay_until_a_beat_or_suspect_max_s() -> None:
    world = fleet(4)
    world.after(500)
    assert len(world.table.suspects()) == 4
    world.beat("s0")
    assert world["s0"].is_healthy
    for _ in range(11):
        world.after(10).beat("s0")
    world.after(4.5).beat("s0")
    assert len(world.table.suspects()) == 3
    world.after(0.5)
    assert set(world.table.entries) == {"s0"}


def test_a_lapse_in_dribbles_within_one_lease_becomes_suspicion_as_a_whole() -> None:
    world = fleet(4)
    world.after(2).beat("s1")
    world.after(2).beat("s2")
    world.after(2).beat("s3")
    world.after(9)
    assert world["s0"].health_status is Health.UNHEALTHY
    world.after(2)
    assert world["s1"].health_status is Health.UNHEALTHY  # two of four: no mass yet
    world.after(2)
    assert sorted(world.table.suspects()) == ["s0", "s1", "s2"]


def test_lapses_more_than_a_lease_apart_are_no_mass() -> None:
    world = fleet(4)
    for left in (3, 2, 1):
        for _ in range(4):
            world.after(4)
            beat_all(world, left)
    assert world.table.suspects() == []


def test_a_registry_that_could_not_tick_for_long_suspects_before_it_removes() -> None:
    """A disk that hung: no tick could be made durable, and no beat came either."""
    world = fleet(4)
    world.at += 300
    world.do(ask.Tick())
    assert len(world.table.suspects()) == 4


def test_a_suspect_keeps_its_name_and_address() -> None:
    world = fleet(4)
    world.after(20)
    assert refusal(world.post("s0", host="10.0.0.9", instance_id="z"))[0] == 409
    assert refusal(world.post("z", port=9000))[0] == 409


def test_a_suspect_that_said_it_is_fatal_is_unhealthy() -> None:
    world = fleet(4)
    world.beat("s0", status="fatal")
    world.after(20)
    assert world["s0"].health_status is Health.UNHEALTHY


# draining


def test_a_drain_mark_survives_beats_new_lives_deletion_and_a_restart() -> None:
    world = World()
    world.post()
    assert is_done(world.drain())
    assert (world["a"].draining, world["a"].is_healthy) == (True, False)
    assert world["a"].health_status is Health.HEALTHY
    assert codes(world["a"]) == ["draining"]
    world.beat()
    world.post(instance_id="new")
    assert world["a"].draining
    world.delete()
    world = world.again()
    world.post(instance_id="newer")
    assert world["a"].draining
    assert is_done(world.drain(on=False))
    assert (world["a"].draining, world["a"].is_healthy) == (False, True)


def test_a_mark_of_a_gone_service_can_be_taken_away_but_none_be_made() -> None:
    world = World()
    assert refusal(world.drain()) == NOT_FOUND
    assert refusal(world.drain(on=False)) == NOT_FOUND
    world.post()
    world.drain()
    world.delete()
    assert is_done(world.drain(on=False))
    world.post(instance_id="new")
    assert not world["a"].draining


def test_draining_is_told_once() -> None:
    world = World()
    world.post()
    world.drain()
    world.drain()
    assert world.news() == ["+a", "+a"]


# status and probes


@pytest.mark.parametrize("status", ["starting", "stopping", "backoff", "fatal", "offline"])
def test_only_running_is_fit(status: str) -> None:
    world = World()
    world.post(status=status)
    assert (world["a"].health_status, world["a"].is_healthy) == (Health.UNHEALTHY, False)
    assert (world["a"].status, codes(world["a"])) == (status, ["status"])


def test_one_that_drains_itself_is_well_but_takes_no_more() -> None:
    world = World()
    world.post(status="draining")
    assert (world["a"].health_status, world["a"].is_healthy) == (Health.HEALTHY, False)


def test_a_probe_decides_about_records_without_lease_alone() -> None:
    world = World()
    world.post("a", lease_s=None)
    world.post("b", port=8200)
    for name in ("a", "b"):
        url = world[name].url
        world.do(ask.Probed(name, url, Verdict(Health.UNHEALTHY, "answered 500")))
    assert codes(world["a"]) == ["probe_failed"]
    assert world["b"].is_healthy
    world.do(ask.Probed("a", "http://elsewhere", Verdict(Health.HEALTHY)))
    assert codes(world["a"]) == ["probe_failed"]
    world.do(ask.Probed("a", world["a"].url, Verdict(Health.HEALTHY)))
    assert world["a"].health_status is Health.HEALTHY


# drafts


def test_nothing_of_a_draft_is_true_before_it_is_adopted() -> None:
    world = World()
    world.post()
    draft = world.table.draft()
    draft.do(ask.Register(registration("b", port=8200)), world.now)
    draft.do(ask.Remove("a"), world.now)
    draft.do(ask.Register(registration("a", instance_id="new")), world.now)
    assert set(world.table.entries) == {"a"}
    assert world["a"].instance_id == "a-1"
    assert world.table.revision == 1
    world.table.validate()
    told = world.table.adopt(draft)
    world.table.validate()
    assert [change.revision for change in told] == [2, 3, 4]
    assert isinstance(told[-1], Put)
    assert world["a"].instance_id == "new"


def test_a_batch_holds_what_must_be_durable_and_nothing_else() -> None:
    world = World()
    world.post()
    draft = world.table.draft()
    draft.do(ask.Register(registration("b", port=8200)), world.now)
    draft.do(ask.Remove("a"), world.now)
    draft.do(ask.Drain("b", on=True), world.now)
    batch = draft.batch()
    assert (batch.base_revision, batch.revision) == (1, 4)
    assert batch.records["a"] is None
    assert batch.records["b"] is not None
    assert batch.retired == {("a", "a-1"): 15.0}
    assert batch.drained == {"b": True}


def test_a_draft_knows_whom_it_touches() -> None:
    world = World()
    world.post("a")
    world.post("b", port=8200)
    draft = world.table.draft()
    draft.do(ask.Remove("a"), world.now)
    assert draft.touches("a")
    assert not draft.touches("b")
