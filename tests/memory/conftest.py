import pytest

pytest.register_assert_rewrite("store_contract", "store_of_all", "store_scenarios")
