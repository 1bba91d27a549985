"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // Which fit is shown in the maps of a sample.
  for (const select of all("select[data-fit-of]")) {
    const show = () => {
      const sample = document.getElementById(select.dataset.fitOf);
      for (const figure of all("figure[data-fit]", sample)) figure.hidden = figure.dataset.fit !== select.value;
    };
    select.addEventListener("change", show);
    show();
  }

  // The overlay: a divider or a blend, moved by one slider.
  for (const box of all(".overlay")) {
    const slider = box.querySelector("input[type=range]");
    const said = box.querySelector(".said");
    const divider = box.querySelector(".divider");
    const draw = () => {
      const value = Number(slider.value);
      const swipe = box.querySelector("input[value=swipe]").checked;
      for (const layer of all("img[data-above]", box)) {
        layer.hidden = layer.dataset.above !== box.querySelector("select[data-pick=above]").value;
        layer.style.clipPath = swipe ? `inset(0 ${100 - value}% 0 0)` : "none";
        layer.style.opacity = swipe ? 1 : value / 100;
      }
      for (const layer of all("img[data-below]", box)) {
        layer.hidden = layer.dataset.below !== box.querySelector("select[data-pick=below]").value;
        layer.style.clipPath = swipe ? `inset(0 0 0 ${value}%)` : "none";
      }
      for (const bar of all("[data-bar]", box)) {
        const [layer, id] = bar.dataset.bar.split(":");
        bar.hidden = id !== box.querySelector(`select[data-pick=${layer}]`).value;
      }
      divider.style.left = `calc(${value}% - 1px)`;
      divider.hidden = !swipe;
      box.querySelector("svg").style.display = box.querySelector("input[type=checkbox]").checked ? "" : "none";
      said.textContent = `${value} % ${box.dataset.name}`;
      slider.setAttribute("aria-valuetext", said.textContent);
    };
    for (const input of all("input, select", box)) input.addEventListener("input", draw);
    const stage = box.querySelector(".stage");
    stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); follow(event); });
    stage.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
    const follow = (event) => {
      const frame = stage.getBoundingClientRect();
      slider.value = Math.round(100 * (event.clientX - frame.left) / frame.width);
      draw();
    };
    draw();
  }

  // One cursor for all maps of a sample that lie on the same grid, with the value under it.
  const decoded = new WeakMap();
  const values = (map) => {
    if (!decoded.has(map)) decoded.set(map, Uint8Array.from(atob(map.dataset.levels), (c) => c.charCodeAt(0)));
    return decoded.get(map);
  };
  const format = (value, unit) => {
    const text = Math.abs(value) < 1000 ? String(Number(value.toPrecision(3))) : Math.round(value / 10) * 10 + "";
    return unit ? `${text} ${unit}` : text;
  };
  const read = (map, row, column) => {
    const level = values(map)[row * Number(map.dataset.columns) + column];
    if (!level) return "not measured";
    const low = Number(map.dataset.low), high = Number(map.dataset.high);
    const mark = level === 255 ? "≥ " : level === 1 && low !== 0 ? "≤ " : "";
    return mark + format(low + (level - 1) / 254 * (high - low), map.dataset.unit);
  };
  // The same place in all pictures of a grid: `down` and `across` are parts of the picture, 0 to 1.
  const cell = (map, down, across) => [
    Math.min(Math.max(Math.floor(down * Number(map.dataset.rows)), 0), Number(map.dataset.rows) - 1),
    Math.min(Math.max(Math.floor(across * Number(map.dataset.columns)), 0), Number(map.dataset.columns) - 1),
  ];
  const says = (map, down, across) => read(map, ...cell(map, down, across));
  const laidOver = (stage, down, across) => all("img:not([hidden])", stage).reverse().map(
    (layer) => `${layer.dataset.above ? "above" : "below"}, ${layer.dataset.label}: ${says(layer, down, across)}`,
  ).join(" · ");
  const outputOf = (map) => map.closest("figure, .split > div").querySelector("output");
  const onGrid = (map) => all("[data-grid]").filter((other) => other.dataset.grid === map.dataset.grid);
  const point = (map, down, across) => {
    for (const other of onGrid(map)) {
      const [row, column] = cell(other, down, across);
      const rows = Number(other.dataset.rows), columns = Number(other.dataset.columns);
      Object.assign(other.querySelector(".cross").style, {
        display: "block", left: `${100 * column / columns}%`, top: `${100 * row / rows}%`,
        width: `${100 / columns}%`, height: `${100 / rows}%`,
      });
      const words = other.matches(".stage") ? laidOver : says;
      outputOf(other).textContent = words(other, down, across);
    }
    map.dataset.at = cell(map, down, across).join();
  };
  const clear = (map) => {
    for (const other of onGrid(map)) {
      other.querySelector(".cross").style.display = "none";
      outputOf(other).textContent = "";
    }
  };
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  for (const map of all("[data-grid]")) {
    map.addEventListener("pointermove", (event) => {
      const frame = map.getBoundingClientRect();
      point(map, (event.clientY - frame.top) / frame.height, (event.clientX - frame.left) / frame.width);
    });
    map.addEventListener("pointerleave", () => clear(map));
    map.addEventListener("blur", () => clear(map));
    map.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      const [row, column] = map.dataset.at ? map.dataset.at.split(",").map(Number) : cell(map, 0.5, 0.5);
      const [down, across] = steps[event.key];
      point(map, (row + down + 0.5) / map.dataset.rows, (column + across + 0.5) / map.dataset.columns);
    });
  }
})();
