"""The report's page in a browser: its script runs, and the explorer shows the runs."""

from __future__ import annotations

import base64
import html
import json
import re

import pytest

from analysis.report import markup, samples, saved
from tests.support.browser import BROWSER, opened
from tests.support.made_pictures import Plan, answered, asked


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_opens_in_a_browser_without_errors(written, study):
    """Runs the page's script: a table sorted, a figure enlarged, no complaint."""
    check = """(async () => {
      const fold = document.querySelector("#fits .packed").parentNode;
      fold.open = true;
      await new Promise((done) => new MutationObserver(done).observe(
        fold, {childList: true}));
      const head = fold.querySelector("th.num");
      head.click();
      const column = [...head.parentNode.cells].indexOf(head);
      const keys = [...head.closest("table").tBodies[0].rows]
        .map((row) => Number(row.cells[column].dataset.v));
      const sorted = keys.every((key, i) => i === 0 || keys[i - 1] <= key);
      document.querySelector(".zoom").click();
      const enlarged = document.querySelector("dialog[open] svg") !== null;
      document.querySelector("dialog button").click();
      const open = document.querySelector("#fits details").open;
      document.body.dataset.check =
        `sorted ${sorted} of ${keys.length} enlarged ${enlarged} unfolded ${open}`;
    })();"""
    page, complaints = opened(written, check, "#fits")
    rows = len(study.fits)
    assert rows > markup.MOST_PLAIN
    said = f"sorted true of {rows} enlarged true unfolded true"
    assert f'data-check="{said}"' in page
    assert complaints == []


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_runs_are_explored_in_a_browser(written):
    """Families and sizes go and come back, laws stand over runs, a run is looked up."""
    check = """
      (async () => {
        document.querySelector("#explorer details").open = true;
        await explorer.open();
        const said = [explorer.marks(), explorer.lines() > 0];
        await explorer.change({families: ["lstm"]});
        said.push(explorer.marks(), explorer.hover(
          [...Array(200).keys()].find((i) => explorer.hover(i).includes("lstm"))));
        await explorer.change(
          {families: ["lstm", "transformer", "convolution"], x: "flops"});
        said.push(explorer.marks());
        await explorer.change({what: "residual"});
        said.push(explorer.marks() > 0);
        await explorer.change({what: "loss", x: "params"});
        explorer.pick(0);
        said.push(explorer.told());
        document.body.dataset.check = JSON.stringify(said);
      })();
    """
    page, complaints = opened(written, check)
    found = re.search(r'data-check="([^"]*)"', page)
    assert found is not None, complaints
    every, laws, some, run, again, residuals, picked = json.loads(
        html.unescape(found[1])
    )
    runs = saved.read(written.parent / "report.json").runs
    losses = runs.filter(like="loss:").iloc[:, 0]
    lstm = losses[(runs.family == "lstm").to_numpy()]
    assert (every, some, again) == (losses.count(), lstm.count(), losses.count())
    assert laws and residuals
    assert "lstm, trained on" in run and "parameters" in run and "loss" in run
    assert runs.run_id[0] in picked and "learning rate" in picked
    assert [line for line in complaints if "willReadFrequently" not in line] == []


@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_samples_are_followed_over_training_in_a_browser(study, written, tmp_path):
    """The slider shows what a run made after a fraction, as the run kept it."""
    plan = Plan(fractions=(0.25, 1.0), readers=("lstm",), noises=3, seeds=1)
    frames, _ = answered(asked(plan, tmp_path / "made"), "same_picture")
    steps = frames["picture_steps"]
    part = samples.section(study.replace(picture_steps=steps))
    body = written.read_text().replace("</main>", f"{part}</main>")
    page = tmp_path / "report.html"
    page.write_text(body)
    check = """
      (async () => {
        const said = [];
        for (const step of [0, 1]) {
          said.push(await trainingSamples.show(0, step), trainingSamples.drawn(1, 2));
        }
        document.body.dataset.check = JSON.stringify(said);
      })();
    """
    text, complaints = opened(page, check)
    found = re.search(r'data-check="([^"]*)"', text)
    assert found is not None, complaints
    early, first, late, last = json.loads(html.unescape(found[1]))
    assert early[1:] == [
        "25%: 4.1k pictures seen",
        "linear sample",
        "sample",
        "nearest training picture",
    ]
    assert late[1] == "100%: 16.4k pictures seen" and late[0] == early[0]
    run = steps[(steps.run_id == steps.run_id[0]) & (steps.what == "sample")]
    kept = [list(base64.b64decode(pixels)[2 * 16 :]) for pixels in run.pixels]
    assert [first, last] == kept and first != last
    assert complaints == []


def test_samples_of_one_fraction_have_no_slider(study):
    assert samples.section(study) == ""
