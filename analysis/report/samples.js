"use strict";

// Samples of the same noises over a run's training. `window.trainingSamples` serves
// tests: `show(run, step)` chooses and gives what the page then says.
(() => {
  const root = document.getElementById("samples-view");
  const form = root.querySelector("form");
  const strips = root.querySelector(".strips");
  const WIDE = 56; // of a picture on the screen, in pixels, about
  let begun, runs;

  async function load() {
    runs = JSON.parse(await unpacked(document.getElementById("samples-data")));
    const groups = new Map();
    runs.forEach((run, i) => {
      if (!groups.has(run.samples)) {
        const group = document.createElement("optgroup");
        group.label = run.samples;
        groups.set(run.samples, group);
        form.run.append(group);
      }
      groups.get(run.samples).append(new Option(run.title, i));
    });
    form.run.addEventListener("input", () => choose(form.run.value));
    form.step.addEventListener("input", draw);
    choose(0);
  }

  function choose(i) {
    form.run.value = i;
    form.step.max = runs[i].steps.length - 1;
    form.step.value = form.step.max;
    draw();
  }

  function draw() {
    const run = runs[form.run.value], step = run.steps[form.step.value];
    form.querySelector("output").textContent = step.title;
    const rows = run.fixed.concat(step.rows);
    strips.replaceChildren(...rows.map(({what, pixels}) => {
      const line = document.createElement("div"), name = document.createElement("span");
      name.textContent = what;
      line.append(name, strip(pixels, run, `${what}, ${step.title}`));
      return line;
    }));
  }

  // Pictures in a row as one canvas, a pixel of theirs as several of the screen.
  function strip(pixels, {count, height, width, channels}, label) {
    const bytes = Uint8Array.from(atob(pixels), (c) => c.charCodeAt(0));
    const canvas = document.createElement("canvas"), times = Math.max(1, Math.round(WIDE / width));
    Object.assign(canvas, {width: count * (width + 1) - 1, height});
    canvas.style.width = `${canvas.width * times}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const context = canvas.getContext("2d");
    for (let n = 0; n < count; n += 1) {
      const image = context.createImageData(width, height);
      for (let p = 0; p < width * height; p += 1) {
        for (let c = 0; c < 3; c += 1) {
          image.data[4 * p + c] = bytes[(n * width * height + p) * channels + c % channels];
        }
        image.data[4 * p + 3] = 255;
      }
      context.putImageData(image, n * (width + 1), 0);
    }
    return canvas;
  }

  const part = root.closest("details");
  // The page's script, which unpacks, comes after this one.
  const begin = () => (begun ??= load());
  if (!part || part.open) addEventListener("DOMContentLoaded", begin);
  part?.addEventListener("toggle", () => { if (part.open) begin(); });
  // A run that is picked above, if it has samples here.
  document.addEventListener("picked", async ({detail}) => {
    await begin();
    const i = runs.findIndex((run) => run.run_id === detail);
    if (i >= 0) choose(i);
  });
  window.trainingSamples = {
    open: begin,
    async show(run, step) {
      await begin();
      choose(run);
      form.step.value = step;
      draw();
      return [form.run.selectedOptions[0].textContent, form.querySelector("output").textContent,
        ...[...strips.children].map((line) => line.textContent)];
    },
    // The gray levels of one picture's first channel, as they are drawn.
    drawn(line, n) {
      const {height, width} = runs[form.run.value];
      const context = strips.children[line].querySelector("canvas").getContext("2d");
      return [...context.getImageData(n * (width + 1), 0, width, height).data]
        .filter((_, k) => k % 4 === 0);
    },
  };
})();
