"""The same model by the default settings of pres_dist, which are for accuracy at a large batch.

PRES, mailboxes of several messages, several optimizer steps a temporal batch, and a learning rate
of its own.

python defaults.py data/wikipedia --batch 2000
"""

from __future__ import annotations

from common import Options
from ours import main, settings

_OF_THE_OTHERS = ("preset", "learning_rate", "learning_rate_scaling", "learning_rate_decay")


def default_settings(options: Options) -> dict[str, object]:
    """Return the shared settings that pres_dist does not choose by default."""
    return {
        name: value
        for name, value in settings(options).items()
        if name.removeprefix("training.") not in _OF_THE_OTHERS
    }


if __name__ == "__main__":
    main(default_settings)
