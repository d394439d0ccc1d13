"""b-values from the standard attribute and from each vendor's private block, never from another vendor's."""

from __future__ import annotations

import struct

import pytest
from pydicom.dataset import Dataset

from fedloupe_client.ingest.dicom.bvalues import GE, PHILIPS, SIEMENS, b_value


def private(creator: str, group: int, offset: int, vr: str, value: object, block: int = 0x10) -> Dataset:
    made = Dataset()
    made.add_new((group, block), "LO", creator)
    made.add_new((group, (block << 8) | offset), vr, value)
    return made


class TestPrivate:
    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            (private(SIEMENS, 0x0019, 0x0C, "IS", "800"), 800),
            (private(SIEMENS, 0x0019, 0x0C, "UN", b"50  "), 50),
            (private(SIEMENS, 0x0019, 0x0C, "IS", "400", block=0x13), 400),
            (private(GE, 0x0043, 0x39, "IS", [1400, 8, 0, 0]), 1400),
            (private(GE, 0x0043, 0x39, "IS", [1000000050, 8, 0, 0]), 50),
            (private(GE, 0x0043, 0x39, "UN", b"1000000800\\8\\0\\0"), 800),
            (private(PHILIPS, 0x2001, 0x03, "FL", 1500.0), 1500),
            (private(PHILIPS, 0x2001, 0x03, "UN", struct.pack("<f", 100.0)), 100),
        ],
    )
    def test_each_vendor_s_own_form(self, made, expected):
        assert b_value(made) == expected

    @pytest.mark.parametrize(
        "made",
        [
            private("SOMEBODY ELSE", 0x0019, 0x0C, "IS", "800"),
            private(SIEMENS, 0x0043, 0x39, "IS", "800"),
            private(PHILIPS, 0x2001, 0x03, "UN", b"\0\0"),
            private(SIEMENS, 0x0019, 0x0C, "UN", b"none"),
        ],
    )
    def test_another_creator_s_number_or_a_damaged_value_is_no_b_value(self, made):
        assert b_value(made) is None

    def test_an_element_of_a_block_that_nobody_reserved_is_no_b_value(self):
        made = Dataset()
        made.add_new((0x0019, 0x100C), "IS", "800")
        assert b_value(made) is None


class TestStandard:
    def test_it_goes_before_the_private_one(self):
        made = private(SIEMENS, 0x0019, 0x0C, "IS", "800")
        made.DiffusionBValue = 50.0
        assert b_value(made) == 50

    def test_a_frame_s_functional_group_goes_before_the_header(self):
        head, group, diffusion = Dataset(), Dataset(), Dataset()
        head.DiffusionBValue, diffusion.DiffusionBValue = 0.0, 1000.0
        group.MRDiffusionSequence = [diffusion]
        assert b_value(head, (group,)) == 1000

    def test_a_negative_or_infinite_value_is_none(self):
        for value in (-5.0, float("inf"), float("nan")):
            made = Dataset()
            made.DiffusionBValue = value
            assert b_value(made) is None
