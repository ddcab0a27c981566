"""Records of results: reading, mistakes, Pareto front."""

import json

import pytest

from wrpn_tf import Result, pareto_front, read_results


def result(cost: float, accuracy: float) -> Result:
    return Result(
        name="r", arch="resnet20", width=1, wbits=2, abits=4, cost=cost, accuracy=accuracy
    )


def test_reading(tmp_path):
    path = tmp_path / "results.jsonl"
    record = {"name": "a", "arch": "resnet20", "width": 2, "wbits": 2, "abits": 4}
    record |= {"cost": 0.4, "accuracy": 0.9, "seed": 0}
    path.write_text(json.dumps(record) + "\n\n")
    assert read_results(path) == [
        Result(name="a", arch="resnet20", width=2, wbits=2, abits=4, cost=0.4, accuracy=0.9)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json\n", "line 1: not a record"),
        ('{"name": "a"}\n', "line 1: not a record"),
        ("[1]\n", "line 1: not a record"),
        ("", "holds no results"),
        (
            '{"name": "a", "arch": "b", "width": 1, "wbits": 2, "abits": 2, "cost": 1, '
            '"accuracy": 91}\n',
            "line 1: cost must be positive and accuracy between 0 and 1",
        ),
        (
            '{"name": "a", "arch": "b", "width": 1, "wbits": 2, "abits": 2, "cost": 1, '
            '"accuracy": "0.7"}\n',
            "line 1: not a record .*accuracy must be float, not '0.7'",
        ),
        (
            '{"name": ["a"], "arch": "b", "width": 1, "wbits": 2, "abits": 2, "cost": 1, '
            '"accuracy": 0.7}\n',
            "line 1: not a record .*name must be str, not",
        ),
        (
            '{"name": "a", "arch": "b", "width": 1, "wbits": 2, "abits": 2, "cost": Infinity, '
            '"accuracy": 0.7}\n',
            "line 1: not a record .*cost must be finite, not inf",
        ),
        (
            '{"name": "a", "arch": "b", "width": 1%s, "wbits": 2, "abits": 2, "cost": 1, '
            '"accuracy": 0.7}\n' % ("0" * 400),
            "line 1: not a record .*int too large to convert to float",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_another_file_is_named(tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(b"PK\xb8")
    with pytest.raises(ValueError, match=r"net\.keras is no JSON-lines file of results: "):
        read_results(path)


def test_the_front_has_what_nothing_surpasses():
    results = [result(0.2, 0.8), result(0.1, 0.7), result(0.2, 0.85), result(0.5, 0.84)]
    assert pareto_front(results) == [results[1], results[2]]
