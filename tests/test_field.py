"""Every input of `tests/field` against its expectation."""

from importlib import import_module
from pkgutil import iter_modules

import field
import pytest
from field import Case, Refused
from refers.errors import UserError

MODULES = [import_module(f"field.{found.name}") for found in iter_modules(field.__path__)]
CASES = {f"{module.__name__}: {case.name}": case for module in MODULES for case in module.CASES}


def test_the_names_of_a_module_are_unique():
    assert MODULES
    assert len(CASES) == sum(len(module.CASES) for module in MODULES)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_odd_input_is_read_or_refused(tmp_path, case: Case):
    given = case.make(tmp_path)
    if isinstance(case.expect, Refused):
        with pytest.raises(UserError) as raised:
            case.read(given)
        message = str(raised.value)
        assert len(message.splitlines()) == 1
        assert not [word for word in case.expect.words if word not in message], message
    elif callable(case.expect):
        case.expect(case.read(given))
    else:
        assert case.read(given) == case.expect
