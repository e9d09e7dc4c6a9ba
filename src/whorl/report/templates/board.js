"use strict";
(() => {
  const form = document.getElementById("filters");
  const body = document.querySelector("#ranking tbody");
  const status = document.getElementById("status");
  const data = JSON.parse(document.getElementById("figures").textContent);
  const lines = new Map([...body.rows].map((line) => [Number(line.dataset.row), line]));
  const names = ["access", "family", "inputs", "by"];
  const columns = ["power", "auc", "tpr", "aruc"];
  const [POWER, AUC, TPR] = columns.keys();

  const chosen = () => {
    const [access, family, inputs, by] = names.map((name) => form.elements[name].value);
    return { access, level: Number(form.elements.access.selectedOptions[0].dataset.level), family, inputs, by };
  };

  const read = () => {
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const name of names) {
      const field = form.elements[name];
      const known = [...field.options].some((option) => option.value === wanted.get(name));
      field.value = known ? wanted.get(name) : field.options[0].value;
    }
  };

  const write = () => {
    const state = new URLSearchParams();
    for (const name of names) {
      const field = form.elements[name];
      if (field.selectedIndex > 0) state.set(name, field.value);
    }
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
  };

  const draw = (cell, figure) => {
    if (!cell) return;
    const [value, low, high, written, interval] = figure || [null, null, null, "–", ""];
    cell.querySelector(".v").textContent = written;
    const detail = cell.querySelector(".d");
    if (detail) detail.textContent = interval;
    const bar = cell.querySelector(".gauge");
    if (!bar) return;
    bar.hidden = value === null;
    bar.style.setProperty("--v", value ?? 0);
    bar.style.setProperty("--l", low ?? value ?? 0);
    bar.style.setProperty("--h", high ?? value ?? 0);
  };

  const allowed = (row, wanted) =>
    (wanted.access === "" || (row.access >= 0 && row.access <= wanted.level)) &&
    (wanted.inputs === "" || row.inputs <= Number(wanted.inputs));

  const apply = () => {
    const wanted = chosen();
    const by = columns.indexOf(wanted.by);
    // What was not answered counts as lost in the order, so that no scheme gains by refusing; in power it already does.
    const ranked = (row, of, figure) => (of === POWER ? figure : figure * row.answered[wanted.family]);
    const value = (row, of) => {
      const figure = row.figures[wanted.family]?.[of];
      return figure ? ranked(row, of, figure[0]) : of === POWER ? 0 : -1;
    };
    const shown = data.filter((row) => allowed(row, wanted) && row.figures[wanted.family]);
    const order = [by, AUC, TPR];
    const compared = (a, b) => order.reduce((found, of) => found || value(b, of) - value(a, of), a.exceeds - b.exceeds);
    shown.sort((a, b) => compared(a, b) || a.row - b.row);
    const first = shown[0];
    const at = by === POWER && !first?.figures[wanted.family][POWER] ? AUC : by;
    const best = first && !first.exceeds ? first.figures[wanted.family][at] : null;
    const reach = (figure, end) => figure[end] ?? figure[0];
    let tied = 0;
    shown.forEach((row, position) => {
      const line = lines.get(row.row);
      const figures = row.figures[wanted.family];
      columns.forEach((name, of) => draw(line.querySelector(`[data-of=${name}]`), figures[of]));
      const own = figures[at];
      const equal = Boolean(
        best && own && !row.exceeds && ranked(row, at, reach(own, 2)) >= ranked(first, at, reach(best, 1)),
      );
      tied += equal;
      line.classList.toggle("tied", equal);
      line.querySelector("[data-of=rank]").textContent = position + 1;
      line.querySelector(".hidden").textContent = equal ? "tied with the best" : "";
      line.hidden = false;
      body.append(line);
    });
    const kept = new Set(shown.map((row) => row.row));
    for (const [row, line] of lines) if (!kept.has(row)) line.hidden = true;
    const count = `${shown.length} of ${data.length} schemes.`;
    status.textContent = !shown.length
      ? "No scheme fits. Widen a filter."
      : first.exceeds
        ? `${count} None is best: each accuses clearly more often than alpha.`
        : `${count} Best: ${first.name}` +
          (tied > 1 ? `; ${tied - 1} more cannot be told from it.` : ", apart from all others.");
    document.querySelectorAll("th[data-by]").forEach((head) => {
      if (head.dataset.by === wanted.by) head.setAttribute("aria-sort", "descending");
      else head.removeAttribute("aria-sort");
    });
  };

  form.addEventListener("change", () => { write(); apply(); });
  form.addEventListener("reset", () => setTimeout(() => { write(); apply(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    if (location.hash === "" || location.hash.includes("=")) { read(); apply(); }
  });
  form.hidden = false;
  if (location.hash.includes("=")) read();
  apply();
})();
