"""What axe-core finds in a page, and whether the page fits its width. Knows nothing of the dashboard."""

from __future__ import annotations

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

#: Findings of these impacts keep somebody from using the page.
GRAVE = frozenset({"serious", "critical"})

_AXE = Axe()

#: Words that are hard to read: past the edge of the window, of a box that cuts off what does not fit into it, or of
#: their own cell, where they run into the next one's.
_CUT_OFF = """() => {
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const cut = [];
  while (words.nextNode()) {
    range.selectNodeContents(words.currentNode);
    const right = Math.max(0, ...[...range.getClientRects()].map((rect) => rect.right));
    let edge = innerWidth;
    for (let box = words.currentNode.parentElement; box; box = box.parentElement) {
      const { overflowX, textOverflow, clipPath } = getComputedStyle(box);
      const meant = /auto|scroll/.test(overflowX) || textOverflow === "ellipsis" || clipPath !== "none";
      if (meant) {
        edge = Infinity;
        break;
      }
      const ends = /hidden|clip/.test(overflowX) || box.matches("td, th, dd");
      if (ends) edge = Math.min(edge, box.getBoundingClientRect().right);
    }
    if (right > edge + 0.5) cut.push(words.currentNode.data.trim().slice(0, 60));
  }
  return cut.slice(0, 5);
}"""


async def findings(page: Page) -> list[str]:
    """The grave findings of axe-core, each with the elements it is about; what is less grave is printed."""
    # It is evaluated and not added as an element, so that the page's own Content-Security-Policy stays in force.
    results = (await _AXE.run(page)).response["violations"]
    grave = []
    for found in results:
        places = "; ".join(f"{node['html'][:200]} ({node['failureSummary']})" for node in found["nodes"][:5])
        line = f"{found['impact']}: {found['id']}, {found['help']}: {places}"
        if found["impact"] in GRAVE:
            grave.append(line)
        else:
            print(line)  # noqa: T201  (pytest shows it beside a failure)
    return grave


async def cut_off(page: Page) -> list[str]:
    """Words that do not fit into their place, and whether the page scrolls sideways; empty if it fits its width."""
    sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    found = [f"cut off: {words}" for words in await page.evaluate(_CUT_OFF)]
    return found + ["the page scrolls sideways"] * await page.evaluate(sideways)
