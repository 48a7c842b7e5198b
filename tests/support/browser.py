"""A page as Chromium shows it: in a frame of a given width, in a light or a dark theme."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_S = 240
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The frame is a file too, which its parent may otherwise not look into.
    *("--allow-file-access-from-files", "--enable-logging=stderr", "--hide-scrollbars"),
    "--virtual-time-budget=20000",
)
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" src="{page}" style="width:{width}px;height:2000px;border:0"></iframe>
<pre id="found"></pre>
<script>
const frame = document.getElementById("page");
frame.addEventListener("load", async () => {{
  const page = frame.contentWindow, body = page.document.body;
  const found = await (async () => {{ {script} }})();
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>
"""


def look(page: Path, width: int, dark: bool, script: str) -> Any:
    """Return the findings of a script in a page, which must not complain on the console.

    Args:
        page: the file.
        width: of the frame that it is shown in, in CSS pixels.
        dark: which theme is preferred.
        script: body of a function with `page` (the window) and `body`; it returns JSON.
    """
    assert CHROMIUM is not None
    frame = page.with_name(f"frame-{width}-{dark}.html")
    frame.write_text(FRAME.format(page=page.name, width=width, script=script), encoding="utf-8")
    profile = page.with_name(f"profile-{width}-{dark}")
    theme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    size = [f"--window-size={width + 50},2100", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [CHROMIUM, *FLAGS, theme, *size, "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
