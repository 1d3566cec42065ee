"""What a filter says, and what is refused because it might be meant otherwise."""

import pytest

from penstock_dispatcher import errors
from penstock_dispatcher.services import filters


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  ", []),
        ("type=a", [("type", "a")]),
        ("state = PENDING AND priority= 3 ", [("state", "PENDING"), ("priority", "3")]),
        ("label.team=maps AND type=a b", [("label.team", "maps"), ("type", "a b")]),
        ("label.k=a=b", [("label.k", "a=b")]),
        ("label.k=", [("label.k", "")]),
        (r"label.k=a\b", [("label.k", r"a\b")]),
        ("type=a and b", [("type", "a and b")]),
        ('type="a"', [("type", "a")]),
        ('label.k="x" AND state="PENDING"', [("label.k", "x"), ("state", "PENDING")]),
        (r'label.k="\"x\""', [("label.k", '"x"')]),
        (r'label.k="\\"', [("label.k", "\\")]),
        ('label.k=" x "', [("label.k", " x ")]),
        ('label.k= "a AND type=b"  AND  type=c', [("label.k", "a AND type=b"), ("type", "c")]),
        (r'label."a=\"b AND c"="d"', [('label.a="b AND c', "d")]),
        ('label."k"=v AND type=a', [("label.k", "v"), ("type", "a")]),
        ('label.k="AND"', [("label.k", "AND")]),
    ],
)
def test_terms(text: str, terms: list[tuple[str, str]]) -> None:
    assert filters.terms(text) == terms


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('label.k=x"', "quote it"),
        ('label.k=""x""', "quote it"),
        ('type="a" b', "quote it"),
        ('type="a', "quote it"),
        (r'type="\n"', "quote it"),
        ("label.k=x ", "quote it"),
        ("label.k= x", "quote it"),
        ("type=a  AND type=b", "quote it"),
        ("label.k =x", "quote it"),
        ('label."k=x', "quote it"),
        ('label."k"x=y', "quote it"),
        ("label.=x", "without a key"),
        ('label.""="x"', "without a key"),
        ("nonsense", "without '='"),
        ("label.k AND type=a", "without '='"),
        ("type=a AND ", "without '='"),
        ('type="a" AND ', "without '='"),
        ("colour=red", "colour"),
        (" AND ".join(["type=a"] * 17), "at most 16"),
    ],
)
def test_what_might_be_meant_otherwise_is_refused(text: str, said: str) -> None:
    with pytest.raises(errors.Refusal, match=said) as caught:
        filters.terms(text)
    assert caught.value.reason is errors.Reason.INVALID_FIELD
