"""What a verification measured, as text, without a model."""

import io

from rich.console import Console

from export.verification.checks import Accuracy
from export.verification.comparison import Difference
from export.verification.result import KernelSetRow, LayerRow, Verification

KERNEL_SETS = tuple(
    KernelSetRow(
        kernel_set=name, images=1000, tensors=3, integers=2000, different=different, largest=7
    )
    for name, different in (("xnnpack", 0), ("tflm", 4))
)


def printed(found: Verification) -> str:
    """On a console of a user's, which takes markup."""
    text = io.StringIO()
    Console(file=text, width=100).print(found)
    return text.getvalue()


def test_names_and_notes_are_told_as_they_are():
    name = "[red]a[/red]:smile:\x1b"
    shown = r"[red]a[/red]:smile:\x1b"
    row = Difference(name=name, different=1, total=8, largest=2)
    found = Verification(
        failures=(f"Wrong: {name}.",),
        kernel_sets=KERNEL_SETS,
        notes=(f"Not for microcontrollers: {name}.",),
        layers=(LayerRow(difference=row, bits=4, unproven=0),),
        outputs=(row,),
    )
    for text in (printed(found), str(found)):
        assert f"Not for microcontrollers: {shown}.\n" in text
        assert f"FAILED: Wrong: {shown}.\n" in text
        assert f"{shown}, from end to end: 1 of 8 codes differ from Keras, by up to 2\n" in text
        assert text.count(shown) == 4
        assert "12.5000%" in text


def test_integers_of_all_kernel_sets_are_counted():
    found = Verification(kernel_sets=KERNEL_SETS)
    assert (found.integers, found.different, found.verified) == (4000, 4, True)
    assert not Verification(failures=("one.",)).verified


def test_top1_is_told_of_images_or_of_positions():
    for fields, sentence in (
        ({}, "Of 2,000 images, the same top-1 on 99.50%"),
        ({"positions": 1024}, "Of 2,000 images of 1,024 positions, the same top-1 on 99.50%"),
        ({"device": 0.5}, "Of 2,000 images, the same top-1 on 99.50%"),
        (
            {"device": 0.5, "keras": 0.75},
            "Top-1 over 2,000 images: file 50.00%, Keras 75.00%; the same top-1 on 99.50%",
        ),
    ):
        accuracy = Accuracy(images=2000, agreement=0.995, **fields)
        assert sentence in str(Verification(accuracy=accuracy)).splitlines()
