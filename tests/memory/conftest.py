from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gloo_world import GlooWorld


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlooWorld]:
    """Four workers, of which a call takes as many as it needs."""
    with GlooWorld(4, tmp_path_factory.mktemp("gloo")) as world:
        yield world
