"""Tables of texts keep their hashes."""

import sys

from penstock_dispatcher.core import lookup


def test_a_table_is_empty_and_keeps_what_a_dict_of_texts_leaves_out() -> None:
    table = lookup.table()
    assert table == {}
    plain: dict[str, None] = {}
    for number in range(1000):
        table[str(number)] = plain[str(number)] = None
    assert table == plain
    assert sys.getsizeof(table) > sys.getsizeof(plain), "else it is worth nothing here"
