"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // With many samples a list leads to each.
  for (const select of all("select[data-jump]")) {
    select.addEventListener("change", () => {
      if (select.value) location.hash = select.value;
      select.value = "";
    });
  }

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
    const position = box.querySelector(".position");
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
      position.textContent = `${value} % ${box.dataset.name}`;
      slider.setAttribute("aria-valuetext", position.textContent);
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
  // Pictures hold their own numbers: the pixels of a PNG are levels of its scale.
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const inflate = async (packed) => {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const pixels = async (image, columns) => {
    const file = bytes(image.src.split(",")[1]), numbers = new DataView(file.buffer);
    let at = 8;
    while (numbers.getUint32(at + 4) !== 0x49444154) at += 12 + numbers.getUint32(at);  // to the chunk IDAT
    const lines = await inflate(file.subarray(at + 8, at + 8 + numbers.getUint32(at)));
    return lines.filter((_, nth) => nth % (columns + 1));  // each line begins with its filter
  };
  const decoded = new WeakMap();
  const decode = async (map) => {
    const levels = await pixels(map.matches("img") ? map : map.querySelector("img"), Number(map.dataset.columns));
    const errors = map.dataset.errors ? await inflate(bytes(map.dataset.errors)) : [];
    decoded.set(map, { levels, errors });
  };
  addEventListener("load", async () => {  // one after another, when everything is to be seen
    for (const map of all("[data-low]")) await decode(map);
  });
  const levelOf = (map, row, column) => decoded.get(map)?.levels[row * Number(map.dataset.columns) + column];
  const format = (value, digits = 3) =>
    Math.abs(value) < 1000 ? String(Number(value.toPrecision(digits))) : Math.round(value / 10) * 10 + "";
  const error = (map, place) => {
    const level = decoded.get(map).errors[place];
    if (!level) return "";
    return ` ± ${level === 255 ? "≥ " : ""}${format((level - 1) / 254 * Number(map.dataset.highestError), 2)}`;
  };
  const read = (map, row, column) => {
    const place = row * Number(map.dataset.columns) + column, level = levelOf(map, row, column);
    if (level === undefined) return "";
    if (!level) return "not measured";
    const low = Number(map.dataset.low), high = Number(map.dataset.high);
    const mark = level === 255 ? "≥ " : level === 1 && low !== 0 ? "≤ " : "";
    const unit = map.dataset.unit ? ` ${map.dataset.unit}` : "";
    return mark + format(low + (level - 1) / 254 * (high - low)) + error(map, place) + unit;
  };
  // The histogram of cell sizes of the whole section, or of one patch.
  const unpack = async (text) => new Uint16Array((await inflate(bytes(text))).buffer);
  const histograms = new Map();
  all(".sizes").forEach(async (card) => {
    const data = JSON.parse(card.dataset.sizes), bins = data.edges.length - 1, counts = await unpack(data.counts);
    const under = {};
    for (const [name, text] of Object.entries(data.pixels)) under[name] = await unpack(text);
    const total = new Array(bins).fill(0);
    counts.forEach((count, place) => { total[place % bins] += count; });
    const draw = (values, what, marks) => {
      const high = Math.max(...values, 1), top = data.edges[bins];
      const bars = values.map((count, bin) => `<rect x="${40 + 720 * bin / bins}" width="${720 / bins - 1}" ` +
        `y="${150 - 130 * count / high}" height="${130 * count / high}"><title>${data.edges[bin].toFixed(1)} to ` +
        `${data.edges[bin + 1].toFixed(1)} µm: ${count} cells</title></rect>`);
      const ticks = [];
      for (let size = 0; size <= top; size += top > 60 ? 20 : top > 30 ? 10 : 5) {
        ticks.push(`<text x="${40 + 720 * size / top}" y="168">${size}</text>`);
      }
      const lines = marks.filter(([, size]) => size > 0 && size <= top).map(([label, size], nth) =>
        `<line x1="${40 + 720 * size / top}" x2="${40 + 720 * size / top}" y1="14" y2="150" class="mark${nth}"/>` +
        `<text x="${44 + 720 * size / top}" y="${24 + 14 * nth}" class="mark${nth} label">${label} ${size.toFixed(1)}</text>`);
      card.querySelector(".histogram").innerHTML = '<svg viewBox="0 0 800 190" role="img">' +
        `<text x="34" y="24" class="end">${high}</text><text x="34" y="153" class="end">0</text>` +
        `${bars.join("")}${ticks.join("")}${lines.join("")}<text x="400" y="186">diameter of the cells (µm)</text></svg>`;
      const svg = card.querySelector("svg"), cells = values.reduce((sum, count) => sum + count, 0);
      svg.setAttribute("aria-label", `Histogram of ${cells} cell diameters. ${what}`);
      card.querySelector(".what").textContent = `${what} ${cells} cells.`;
    };
    const everything = () => draw(total, "All patches.", []);
    histograms.set(card.dataset.of, {
      everything,
      show: (grid, row, column, columns, marks) => {
        const patch = under[grid] ? under[grid][row * columns + column] : 0;
        if (!patch) return everything();
        const values = Array.from(counts.subarray((patch - 1) * bins, patch * bins));
        const where = grid === "mri" ? "The patch under this voxel." : "This patch.";
        draw(values, where, marks);
      },
    });
    everything();
  });

  // The points of a chart say what they are: the nearest to the pointer, or one after another by the keyboard.
  const near = 14, tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const single = (use) => ({ x: Number(use.getAttribute("x")), y: Number(use.getAttribute("y")), words: use.dataset.tip });
  const filled = (template, values) => values.split(" ").reduce((text, value) => text.replace("{}", value), template);
  const crowd = (group) => {  // many points in few paths; by keyboard from left to right
    const dots = all("path", group).flatMap((path) => [...path.getAttribute("d").matchAll(/M(\S+) (\S+?)h/g)]);
    const values = group.dataset.values.split(";");
    return dots.map(([, x, y], nth) => ({ x: Number(x), y: Number(y), words: filled(group.dataset.tip, values[nth]) }))
      .sort((one, other) => one.x - other.x);
  };
  for (const chart of all(".chart")) {
    const output = chart.closest(".card").querySelector("output");
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    ring.setAttribute("class", "ring");
    ring.setAttribute("r", 4);
    chart.append(ring);
    let known, asked = -1;
    const points = () => known ??= all("[data-tip]", chart).flatMap(
      (each) => each.dataset.values === undefined ? [single(each)] : crowd(each),
    );
    const ask = (place) => {
      if (place === asked) return;
      asked = place;
      const point = points()[place];
      tip.hidden = !point;
      ring.style.display = point ? "block" : "none";
      output.textContent = point ? point.words.replaceAll("\n", " · ") : "";
      if (!point) return;
      ring.setAttribute("cx", point.x);
      ring.setAttribute("cy", point.y);
      tip.textContent = point.words;
      settle();
    };
    const settle = () => {
      const frame = ring.getBoundingClientRect(), size = tip.getBoundingClientRect();
      const x = frame.left + frame.width / 2, y = frame.top + frame.height / 2;
      tip.style.left = `${Math.max(Math.min(x + 12, innerWidth - size.width - 8), 8)}px`;
      tip.style.top = `${y + 12 + size.height > innerHeight ? y - 12 - size.height : y + 12}px`;
    };
    const follow = (event) => {
      const view = chart.getScreenCTM(), x = (event.clientX - view.e) / view.a, y = (event.clientY - view.f) / view.d;
      let least = near / view.a, nearest = -1;
      points().forEach((point, place) => {
        const away = Math.hypot(point.x - x, point.y - y);
        if (away < least) [least, nearest] = [away, place];
      });
      ask(nearest);
    };
    for (const move of ["pointermove", "pointerdown"]) chart.addEventListener(move, follow);
    for (const end of ["pointerleave", "blur"]) chart.addEventListener(end, () => ask(-1));
    addEventListener("scroll", () => { if (asked >= 0) settle(); }, { passive: true, capture: true });
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], count = points().length;
      if (event.key === "Escape") ask(-1);
      if (!step || !count || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      const to = asked < 0 ? (step > 0 ? 0 : count - 1) : asked + step * (event.shiftKey ? 20 : 1);
      ask((to % count + count) % count);
      ring.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
    });
  }

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
  const number = (map, row, column) => {
    const level = levelOf(map, row, column);
    const low = Number(map.dataset.low), high = Number(map.dataset.high);
    return level ? low + (level - 1) / 254 * (high - low) : NaN;
  };
  const open = (map, down, across) => {
    const [anchor, grid] = map.dataset.grid.split(/-(?=[a-z]+$)/), histogram = histograms.get(anchor);
    if (!histogram) return;
    const [row, column] = cell(map, down, across);
    const sized = onGrid(map).filter((other) => other.dataset.quantity === "vCS" && other.offsetParent);
    const marks = sized.map((other) => [
      `vCS ${other.dataset.side}`, number(other, row, column),
    ]);
    histogram.show(grid, row, column, Number(map.dataset.columns), marks);
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
    map.addEventListener("click", (event) => {
      const frame = map.getBoundingClientRect();
      open(map, (event.clientY - frame.top) / frame.height, (event.clientX - frame.left) / frame.width);
    });
    map.addEventListener("pointerleave", () => clear(map));
    map.addEventListener("blur", () => clear(map));
    map.addEventListener("keydown", (event) => {
      const [row, column] = map.dataset.at ? map.dataset.at.split(",").map(Number) : cell(map, 0.5, 0.5);
      if (event.key === "Enter") open(map, (row + 0.5) / map.dataset.rows, (column + 0.5) / map.dataset.columns);
      const histogram = histograms.get(map.dataset.grid.replace(/-[a-z]+$/, ""));
      if (event.key === "Escape" && histogram) histogram.everything();
      if (!(event.key in steps)) return;
      event.preventDefault();
      const [down, across] = steps[event.key];
      point(map, (row + down + 0.5) / map.dataset.rows, (column + across + 0.5) / map.dataset.columns);
    });
  }
})();
