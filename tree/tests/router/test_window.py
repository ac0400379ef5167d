from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from router.window import BUCKETS, SAMPLES_MAX, Histogram, Pace, Samples


def test_response_time_tracked() -> None:
    samples = Samples()
    assert samples.percentile(50) is None
    assert samples.mean() is None
    for _ in range(3):
        samples.append(0.045)
    assert samples.percentile(50) == 0.045
    assert samples.percentile(99) == 0.045
    assert samples.mean() == 0.045


def test_percentiles_are_values_that_were_measured() -> None:
    samples = Samples()
    samples.extend(range(1, 101))
    assert samples.percentile(50) == 50
    assert samples.percentile(99) == 99
    assert samples.percentile(100) == 100


def test_only_the_last_samples_count() -> None:
    samples = Samples()
    samples.extend([9.0] * SAMPLES_MAX)
    samples.extend([1.0] * SAMPLES_MAX)
    assert samples.percentile(99) == 1.0


def test_a_pace_forgets_after_a_minute() -> None:
    pace = Pace()
    pace.count += 7
    assert pace.last() == 7
    for _ in range(59):
        pace.tick()
    assert pace.last() == 7
    assert pace.last(10) == 0
    pace.tick()
    assert pace.last() == 0
    pace.count += 1
    assert pace.last(1) == 1


@given(st.lists(st.floats(0, 1000), max_size=1500))
def test_a_histogram_counts_every_value_once_in_its_bucket(values: list[float]) -> None:
    histogram = Histogram()
    expected = [0] * (len(BUCKETS) + 1)
    for value in values:
        histogram.add(value)
        expected[bisect_left(BUCKETS, value)] += 1
    counts, total = histogram.read()
    assert counts == expected
    assert abs(total - sum(values)) < 1e-6


def test_the_median_follows_each_measurement() -> None:
    samples = Samples()
    assert samples.median() is None
    for count in range(1, 600):
        samples.append(count * 37 % 101 / 1000)
        assert samples.median() == samples.percentile(50)
    samples.clear()
    assert samples.median() is None
