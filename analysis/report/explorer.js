"use strict";

// The explorer: filters the page's runs and lets Vega draw them. `window.explorer`
// serves tests: `change(settings)` sets any of them and gives the milliseconds.
(() => {
  const root = document.getElementById("explorer-view");
  const text = (id) => unpacked(document.getElementById(id));
  const form = root.querySelector("form");
  const canvas = root.querySelector(".canvas");
  const tip = root.querySelector(".tip");
  const picked = root.querySelector(".picked");
  const count = root.querySelector(".count");
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross",
    "triangle-down", "triangle-right"];
  const AXES = {tokens: "training tokens", params: "parameters", flops: "training FLOPs"};
  let begun, data, runs, sizes, rates, chosen, views = {}, view;

  const column = ({values, levels, codes}) => values ?? codes.map((code) => levels[code]);
  const finite = (value) => value !== null && value > 0;

  async function load() {
    const [code, body] = await Promise.all(["explorer-vega", "explorer-data"].map(text));
    (0, eval)(code);
    data = JSON.parse(body);
    // The page's words speak of tokens; a table may count something else.
    AXES.tokens = form.x.options[0].textContent = `training ${data.counted}`;
    runs = Object.fromEntries(
      Object.entries(data.runs).map(([name, values]) => [name, column(values)]));
    runs.place = runs.run_id.map((_, i) => i);
    runs.familyAt = runs.family.map((name) => data.families.indexOf(name));
    runs.corpusAt = runs.corpus.map((name) => data.corpora.indexOf(name));
    sizes = [...new Set(runs.params.filter(finite))].sort((a, b) => a - b);
    // FLOPs a parameter and token of each family: laws are over those two.
    rates = data.families.map((_, family) => {
      const all = runs.place.filter((i) => runs.familyAt[i] === family
        && finite(runs.flops[i]) && finite(runs.params[i]) && finite(runs.tokens[i]))
        .map((i) => runs.flops[i] / runs.params[i] / runs.tokens[i])
        .sort((a, b) => a - b);
      return all[all.length >> 1] ?? 6;
    });
    for (const name of data.targets) form.target.add(new Option(name, name));
    for (const list of ["families", "corpora"]) fill(list);
    for (const end of [form.least, form.most]) end.max = sizes.length - 1;
    form.most.value = sizes.length - 1;
    if (!data.paths.run.length) form.what.options[2].disabled = true;
    if (!data.residuals.residual.length) form.what.options[1].disabled = true;
    if (!data.laws.loss.length) { form.laws.checked = false; form.laws.disabled = true; }
    form.addEventListener("input", draw);
    draw();
  }

  function fill(list) {
    const place = root.querySelector(`[data-list=${list}]`);
    data[list].forEach((name, i) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, {type: "checkbox", name: list, value: i, checked: true});
      const mark = document.createElement("span");
      mark.className = "mark";
      if (list === "families") mark.style.background = colour(i);
      else mark.textContent = "●■▲◆✚▼▶"[i % 7];
      label.append(box, mark, name);
      place.append(label);
    });
    if (data[list].length < 3) return;
    const both = document.createElement("button");
    both.type = "button";
    both.textContent = "all or none";
    both.addEventListener("click", () => {
      const boxes = [...place.querySelectorAll("input")];
      const on = !boxes.every((box) => box.checked);
      for (const box of boxes) box.checked = on;
      draw();
    });
    place.append(both);
  }

  const colour = (family) => data.palette[family % data.palette.length];
  const ticked = (list) => new Set([...form.querySelectorAll(`[name=${list}]:checked`)]
    .map((box) => Number(box.value)));

  // What the form asks for.
  function settings() {
    const ends = [Number(form.least.value), Number(form.most.value)].sort((a, b) => a - b);
    return {what: form.what.value, x: form.x.value, laws: form.laws.checked,
      target: data.targets.indexOf(form.target.value),
      families: ticked("families"), corpora: ticked("corpora"),
      least: sizes[ends[0]], most: sizes[ends[1]]};
  }

  const inside = (now, family, corpus, params) => now.families.has(family)
    && now.corpora.has(corpus) && params >= now.least * 0.999 && params <= now.most * 1.001;

  function along(now, family, params, tokens) {
    if (now.x === "tokens") return tokens;
    return now.x === "params" ? params : rates[family] * params * tokens;
  }

  // The runs that are shown, as marks.
  function dots(now) {
    const rows = [];
    if (now.what === "residual") {
      const all = data.residuals;
      all.residual.forEach((y, k) => {
        if (y === null || all.target[k] !== now.target
          || !inside(now, all.family[k], all.corpus[k], all.params[k])) return;
        rows.push({x: along(now, all.family[k], all.params[k], all.tokens[k]), y,
          family: all.family[k], corpus: all.corpus[k], fitted: true,
          params: all.params[k], tokens: all.tokens[k]});
      });
      return rows;
    }
    const losses = runs[`loss:${data.targets[now.target]}`];
    for (const i of runs.place) {
      const y = losses[i], x = runs[now.x][i];
      if (!finite(y) || !finite(x)
        || !inside(now, runs.familyAt[i], runs.corpusAt[i], runs.params[i])) continue;
      rows.push({x, y, i, family: runs.familyAt[i], corpus: runs.corpusAt[i],
        fitted: data.used[i], params: runs.params[i], tokens: runs.tokens[i]});
    }
    return rows;
  }

  // Laws, a line each: along the tokens a size, along the sizes a budget.
  function laws(now) {
    const all = data.laws;
    if (!now.laws || now.what !== "loss") return [];
    const shown = [];
    all.loss.forEach((_, k) => {
      if (all.target[k] === now.target && all.loss[k] !== null
        && inside(now, all.family[k], all.corpus[k], all.params[k])) shown.push(k);
    });
    const steps = [...new Set(shown.map((k) => all.tokens[k]))].sort((a, b) => a - b);
    const few = new Set(steps.filter((_, s) => s % Math.ceil(steps.length / 5) === 0));
    const lines = new Map();
    for (const k of shown) {
      if (now.x === "params" && !few.has(all.tokens[k])) continue;
      const fixed = now.x === "params" ? all.tokens[k] : all.params[k];
      const name = `${all.family[k]} ${all.corpus[k]} ${fixed}`;
      if (!lines.has(name)) lines.set(name, []);
      lines.get(name).push({x: along(now, all.family[k], all.params[k], all.tokens[k]),
        y: all.loss[k], low: all.low[k] ?? all.loss[k], high: all.high[k] ?? all.loss[k],
        family: all.family[k]});
    }
    return joined([...lines.values()]);
  }

  // Lines of one family become one mark with gaps: hundreds of marks would be slow.
  const joined = (lines) => lines.flatMap((line) =>
    [...line, {...line[line.length - 1], gap: true}]);

  function paths(now) {
    const all = data.paths, lines = new Map();
    if (now.what !== "path") return [];
    all.run.forEach((i, k) => {
      if (all.loss[k] === null
        || !inside(now, runs.familyAt[i], runs.corpusAt[i], runs.params[i])) return;
      const x = now.x === "params" ? runs.params[i]
        : along(now, runs.familyAt[i], runs.params[i], all.tokens[k]);
      if (!lines.has(i)) lines.set(i, []);
      lines.get(i).push({x, y: all.loss[k], i, family: runs.familyAt[i],
        corpus: runs.corpusAt[i], fitted: data.used[i],
        look: i === chosen ? "chosen" : runs.familyAt[i]});
    });
    return [...lines.values()];
  }

  function draw() {
    const now = settings();
    const kind = now.what === "residual" ? "linear" : "log";
    const curves = paths(now), lines = joined(curves);
    // Of a learning curve its end stands for the run.
    const marks = now.what === "path" ? curves.map((line) => ({...line[line.length - 1]}))
      : dots(now);
    if (view?.kind !== kind) show(kind);
    view.signal("xTitle", AXES[now.x]);
    view.signal("yTitle", now.what === "residual" ? "residual (% of the loss)"
      : now.what === "path" ? `training loss (${data.unit})` : `loss (${data.unit})`);
    const points = lines.length ? lines : marks;
    view.signal("xDomain", domain(points.map((row) => row.x), "log"));
    view.signal("yDomain", domain(points.map((row) => row.y), kind));
    view.data("dots", marks).data("laws", laws(now)).data("paths", lines).run();
    const n = marks.length;
    count.textContent = `${n} of ${runs.place.length} runs shown`
      + (marks.some((row) => row.fitted === false) ? "; hollow: no fit saw it" : "");
    root.querySelector("output").textContent = `${short(now.least)} to ${short(now.most)}`;
  }

  // Both ends with some room; the highest twentieth of a hundredth may lie outside.
  function domain(values, kind) {
    if (!values.length) return kind === "log" ? [1, 10] : [-1, 1];
    const sorted = values.sort((a, b) => a - b), log = kind === "log";
    const to = (value) => (log ? Math.log(value) : value);
    const low = to(sorted[0]), high = to(sorted[Math.ceil((sorted.length - 1) * 0.9995)]);
    const room = 0.04 * (high - low) || 0.1;
    return [low - room, high + room].map((end) => (log ? Math.exp(end) : end));
  }

  function show(kind) {
    view?.finalize();
    const width = Math.max(260, Math.min(canvas.clientWidth || 720, 900) - 70);
    view = new vega.View(vega.parse(spec(kind, width)),
      {renderer: "canvas", container: canvas, hover: false});
    view.kind = kind;
    view.addEventListener("mousemove", (event, item) => hover(event, item));
    view.addEventListener("click", (_, item) => pick(item?.datum?.i));
  }

  function spec(kind, width) {
    const at = (field) => ({scale: "y", field});
    const family = {scale: "family", field: "family"};
    const whole = {signal: "!datum.gap"};
    return {
      width, height: 420, padding: 5,
      signals: [{name: "xTitle", value: ""}, {name: "yTitle", value: ""},
        {name: "xDomain", value: [1, 10]}, {name: "yDomain", value: [1, 10]}],
      data: [{name: "dots"}, {name: "laws"}, {name: "paths"}],
      scales: [
        {name: "x", type: "log", range: "width", nice: false, zero: false,
          domain: {signal: "xDomain"}},
        {name: "y", type: kind, range: "height", nice: false, zero: false,
          domain: {signal: "yDomain"}},
        {name: "family", type: "ordinal", domain: data.families.map((_, i) => i),
          range: data.families.map((_, i) => colour(i))},
        {name: "shape", type: "ordinal", domain: data.corpora.map((_, i) => i),
          range: data.corpora.map((_, i) => SHAPES[i % SHAPES.length])}],
      axes: [
        {scale: "x", orient: "bottom", grid: true, gridColor: "#e6e6e6", tickCount: 6,
          encode: {labels: {update: {text: {signal: "datum.label && (datum.value >= 1e15"
            + " ? format(datum.value, '.0e') : replace(format(datum.value, '~s'), 'G', 'B'))"
          }}}}, title: {signal: "xTitle"}, labelOverlap: true},
        {scale: "y", orient: "left", grid: true, gridColor: "#e6e6e6", tickCount: 8,
          title: {signal: "yTitle"}, labelOverlap: true}],
      marks: [{type: "group", clip: true, encode: {update: {
          width: {signal: "width"}, height: {signal: "height"}}}, marks: [
        {type: "group", from: {facet: {name: "law", data: "laws", groupby: "family"}},
          marks: [
            {type: "area", from: {data: "law"}, interactive: false, encode: {update: {
              defined: whole, x: {scale: "x", field: "x"}, y: at("low"), y2: at("high"),
              fill: family, fillOpacity: {value: 0.1}}}},
            {type: "line", from: {data: "law"}, interactive: false, encode: {update: {
              defined: whole, x: {scale: "x", field: "x"}, y: at("y"), stroke: family,
              strokeWidth: {value: 1}}}}]},
        {type: "group", from: {facet: {name: "path", data: "paths", groupby: "look"}},
          marks: [{type: "line", from: {data: "path"}, interactive: false,
            encode: {update: {
              defined: whole, x: {scale: "x", field: "x"}, y: at("y"), stroke: family,
              strokeWidth: {signal: "datum.look === 'chosen' ? 3.5 : 1"},
              strokeOpacity: {signal: "datum.look === 'chosen' ? 1 : 0.5"}}}}]},
        {type: "symbol", from: {data: "dots"}, encode: {update: {
          x: {scale: "x", field: "x"}, y: at("y"), size: {value: 42}, stroke: family,
          shape: {scale: "shape", field: "corpus"}, strokeWidth: {value: 1.2},
          cursor: {value: "pointer"}, fill: {signal:
            "datum.fitted ? scale('family', datum.family) : 'white'"},
          fillOpacity: {value: 0.75}}}}]}],
    };
  }

  const short = (value) => {
    if (typeof value !== "number") return value ?? "";
    if (value >= 1e15) return value.toExponential(2);
    for (const [unit, name] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= unit) return `${Number((value / unit).toPrecision(3))}${name}`;
    }
    return String(Number(value.toPrecision(5)));
  };

  function hover(event, item) {
    const row = item?.datum;
    tip.hidden = row?.family === undefined;
    if (tip.hidden) return;
    const name = row.i === undefined ? "" : `${runs.run_id[row.i]}\n`;
    const params = row.params ?? runs.params[row.i], tokens = row.tokens ?? runs.tokens[row.i];
    const corpus = row.corpus ?? runs.corpusAt[row.i];
    const value = form.what.value === "residual" ? `residual ${row.y.toFixed(2)}%`
      : `loss ${short(row.y)} ${data.unit}`;
    tip.textContent = `${name}${data.families[row.family]}, trained on ${data.corpora[corpus]}\n`
      + `${short(params)} parameters, ${short(tokens)} ${data.counted}\n${value}`;
    const box = root.querySelector(".chart").getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 220)}px`;
    tip.style.top = `${event.clientY - box.top + 12}px`;
  }

  // The settings of one run, as the table of all runs has them.
  function pick(i) {
    if (i === undefined) return;
    chosen = i;
    const list = document.createElement("dl");
    for (const name of Object.keys(data.runs)) {
      const value = runs[name][i];
      if (value === null || value === "") continue;
      const row = document.createElement("div");
      const [key, cell] = ["dt", "dd"].map((kind) => document.createElement(kind));
      key.textContent = name.replaceAll("_", " ").replace(/\btokens\b/, data.counted);
      cell.textContent = short(value);
      cell.title = String(value);
      row.append(key, cell);
      list.append(row);
    }
    const head = document.createElement("p");
    head.textContent = data.used[i] ? "The run that is picked:"
      : "The run that is picked; no fit saw it:";
    picked.replaceChildren(head, list);
    document.dispatchEvent(new CustomEvent("picked", {detail: runs.run_id[i]}));
    if (form.what.value === "path") draw();
  }

  const part = root.closest("details");
  // The page's script, which unpacks, comes after this one.
  const begin = () => (begun ??= load());
  if (!part || part.open) addEventListener("DOMContentLoaded", begin);
  part?.addEventListener("toggle", () => { if (part.open) begin(); });
  window.explorer = {
    open: begin, pick, shown: () => count.textContent,
    told: () => picked.textContent,
    marks: () => view.data("dots").length,
    lines: () => view.data("laws").length,
    hover(i) {
      hover({clientX: 0, clientY: 0}, {datum: view.data("dots").find((row) => row.i === i)});
      return tip.textContent;
    },
    async change(wanted) {
      await begin();
      for (const [name, value] of Object.entries(wanted)) {
        if (name === "families" || name === "corpora") {
          for (const box of form.querySelectorAll(`[name=${name}]`)) {
            box.checked = value.includes(data[name][box.value]);
          }
        } else if (name === "laws") form.laws.checked = value;
        else form[name].value = value;
      }
      const begun = performance.now();
      draw();
      // Vega draws once what it has computed; a pixel read back waits for the picture.
      await view.runAsync();
      canvas.querySelector("canvas").getContext("2d").getImageData(0, 0, 1, 1);
      return performance.now() - begun;
    },
  };
})();
