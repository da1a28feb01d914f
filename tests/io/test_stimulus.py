"""A stimulus is read with its clock, or refused with the line and the remedy."""

import numpy as np
import pytest

from roughspike.io.stimulus import read_stimulus


def write(tmp_path, text):
    (tmp_path / "s.csv").write_text(text)
    return tmp_path / "s.csv"


@pytest.mark.parametrize(
    ("text", "options", "dt", "start"),
    [
        ("time_s,value\n3600.0,1\n3600.5,2\n3601.0,4\n", {}, 0.5, 3600.0),
        ("time_ms,value\n10,1\n12,2\n14,4\n", {"unit": "ms"}, 0.002, 0.01),
        ("0.0,1\n0.5,2\n1.0,4\n", {}, 0.5, 0.0),
        ("1\n2\n4\n", {"dt": 0.25}, 0.25, 0.0),
        ("value\n1\n2\n4\n", {"dt": 0.25}, 0.25, 0.0),
        ("time_s,sound\n0,1\n0.5,2\n1,4\n", {"dt": 0.5}, 0.5, 0.0),
        ("time_s,light,Sound\n0,9,1\n0.5,9,2\n1,9,4\n", {"column": "Sound"}, 0.5, 0.0),
    ],
)
def test_reads(tmp_path, text, options, dt, start):
    signal = read_stimulus(write(tmp_path, text), **options)
    np.testing.assert_array_equal(signal.values, [1.0, 2.0, 4.0])
    np.testing.assert_allclose([signal.dt, signal.start], [dt, start], rtol=1e-14)


def test_times_that_are_rounded_are_regular(tmp_path):
    text = "time_s,value\n" + "\n".join(f"{3600 + k / 3000:.6f},{k}" for k in range(100))
    assert read_stimulus(write(tmp_path, text)).dt == pytest.approx(1 / 3000, rel=1e-4)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "time_s,value\n0,1\n1,2\n3,3\n4,4\n5,5\n",
            {},
            "line 4: irregular sampling, 2 s after.*1 s is usual.*resample",
        ),
        ("time_s,value\n0,1\n1,2\n1,3\n2,4\n3,4\n", {}, "line 4: irregular sampling, 0 s after"),
        ("time_s,value\n3,1\n2,2\n1,3\n", {}, "do not ascend: sort the rows by time"),
        ("time_s,value\n0,1\n1,nan\n", {}, "line 3: column 'value' is NaN or infinite .nan.: fix or delete"),
        ("time_s,value\n0,1\n1,loud\n", {}, "line 3: 'loud' in column 'value' is not a number"),
        ("time_s,value\n", {}, "holds 0 samples: a stimulus needs at least 2"),
        ("", {}, "is empty: it needs a header line"),
        ("value\n1\n2\n", {}, "no column 'time_s': pass dt, the sampling interval in seconds"),
        ("time_s,a,b\n0,1,1\n1,2,2\n", {}, "no column 'value', it has time_s, a, b: pass column= one of them"),
        ("time_s,a\n0,1\n1,2\n", {"column": "c"}, "no column 'c', it has time_s, a: pass column="),
        ("0,1\n1,2\n", {"column": "c"}, "has no header, so no column 'c': leave column out"),
        ("0,1,2\n1,2,3\n", {}, "3 columns but no header: begin it with a line of names"),
        ("time_ms,value\n0,1\n1,2\n", {}, "time column 'time_ms': pass unit='ms'"),
        ("time_s,value\n0,1\n1,2\n", {"dt": 0.5}, "dt is 0.5 s, but samples in .* are 1 s apart: leave dt out"),
        ("time_s,value\n0,1\n1,2\n", {"dt": -0.5}, "dt must be greater than 0, got -0.5: pass the sampling interval"),
        ("time_s,value\n0,1\n1,2\n", {"unit": "h"}, 'unit must be "s", "ms" or "us"'),
    ],
)
def test_bad_input(tmp_path, text, options, message):
    with pytest.raises(ValueError, match=message):
        read_stimulus(write(tmp_path, text), **options)


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="no such file.*check the path"):
        read_stimulus(tmp_path / "nowhere.csv")
