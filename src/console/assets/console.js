// Pages can be read without this script. It fetches the marked regions of the page again, follows the live tail, makes
// the charts zoomable, and copies texts. The server renders all HTML, so a region is only replaced with HTML from it.

const still = region =>
  region.contains(document.activeElement) && document.activeElement !== region
    ? true
    : (() => {
        const selection = document.getSelection();
        return Boolean(selection && !selection.isCollapsed && region.contains(selection.anchorNode));
      })();

/** The keys of the rows in a list, by which old and new rows are compared. */
const keys = root => new Set([...root.querySelectorAll('[data-key]')].map(element => element.dataset.key));

function replaceRegion(old, fresh) {
  const adopted = document.adoptNode(fresh);
  const open = [...old.querySelectorAll('details')].map(details => details.open);
  for (const [index, details] of [...adopted.querySelectorAll('details')].entries())
    details.open = open[index] ?? false;
  const scrolled = old.scrollLeft;
  old.replaceWith(adopted);
  adopted.scrollLeft = scrolled;
  draw(adopted);
}

/** Keeps new rows behind a button with their number, so that they do not move the rows that somebody is reading. */
function offer(old, fresh) {
  const before = keys(old);
  const after = keys(fresh);
  const added = [...after].filter(key => !before.has(key)).length;
  let button = document.querySelector('.fresh');
  if (before.size === 0 && after.size === 0) return replaceRegion(old, fresh);
  if (added === 0) return;
  if (!button) {
    button = document.createElement('button');
    button.type = 'button';
    button.className = 'fresh';
    old.before(button);
  }
  button.textContent = `${added} new`;
  button.onclick = () => {
    const target = document.querySelector('[data-region="rows"]');
    button.remove();
    if (target) replaceRegion(target, fresh);
  };
}

async function refresh() {
  if (document.hidden) return;
  const answer = await fetch(location.href, {
    headers: { accept: 'text/html', 'x-collecta-refresh': '1' },
    credentials: 'same-origin',
  });
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const old of document.querySelectorAll('[data-region]')) {
    const name = old.dataset.region;
    const fresh = page.querySelector(`[data-region="${CSS.escape(name)}"]`);
    if (!fresh || name === 'page' || still(old) || old.isEqualNode(fresh)) continue;
    if (name === 'rows' && fresh.querySelector('[data-key]')) offer(old, fresh);
    else if (name !== 'plots' || !zoomed.size) replaceRegion(old, fresh);
  }
}

const every = Number(document.body.dataset.refresh);
if (every > 0) {
  const turn = () =>
    setTimeout(
      () =>
        refresh()
          .catch(() => {})
          .finally(turn),
      every * 1000,
    );
  turn();
}

// The live tail

const list = document.querySelector('[data-tail]');
if (list) {
  const state = document.getElementById('tail-state');
  const body = list.tBodies[0];
  const source = new EventSource(list.dataset.tail);
  source.addEventListener('ready', () => {
    state.textContent = 'Connected: attempts appear as they are recorded.';
  });
  source.addEventListener('full', event => {
    state.textContent = event.data;
    source.close();
  });
  source.addEventListener('attempts', event => {
    if (still(list)) return;
    const rows = new DOMParser()
      .parseFromString(`<table><tbody>${event.data}</tbody></table>`, 'text/html')
      .querySelectorAll('tr');
    for (const row of rows) body.prepend(document.adoptNode(row));
    while (body.rows.length > 500) body.lastElementChild.remove();
  });
  source.onerror = () => {
    state.textContent = 'The connection broke. It is tried again.';
  };
}

// Copying

for (const button of document.querySelectorAll('button.copy')) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText(button.parentElement.querySelector('pre').textContent);
    button.textContent = 'Copied';
  });
}

// Charts that can be zoomed: drag over a span to open it, double-click to go back.

const zoomed = new Set();

function colour(kind) {
  const probe = document.createElement('span');
  probe.className = `key key-${kind}`;
  document.body.append(probe);
  const value = getComputedStyle(probe, '::before').backgroundColor;
  probe.remove();
  return value;
}

/** The label of a tick of the time axis, in UTC: the day if ticks are days apart or a day begins, else the time. */
function clock(seconds, ticks) {
  const text = new Date(seconds * 1000).toISOString();
  return seconds % 86400 === 0 || ticks[1] - ticks[0] >= 86400 ? text.slice(5, 10) : text.slice(11, 16);
}

const isNumber = value => value !== null && value !== undefined;

async function draw(root) {
  const figures = [...root.querySelectorAll('[data-plot]')];
  if (figures.length === 0) return;
  const { default: UPlot } = await import(new URL('./uplot.js', import.meta.url).href);
  const ink = getComputedStyle(document.body).getPropertyValue('--soft').trim();
  const grid = getComputedStyle(document.body).getPropertyValue('--line').trim();
  for (const figure of figures) {
    if (!figure.isConnected) continue;
    const { unit, stacked, times, series } = JSON.parse(figure.dataset.plot);
    const picture = figure.querySelector('.picture');
    const values = series.map(each => each.values);
    const heights = stacked
      ? values.map((_, n) =>
          times.map((__, i) => values.slice(0, n + 1).reduce((sum, each) => sum + (each[i] ?? 0), 0)),
        )
      : values;
    // A single value between gaps makes no line, so it is drawn as a point.
    const isolated = drawn =>
      times.map((_, i) => i).filter(i => isNumber(drawn[i]) && !isNumber(drawn[i - 1]) && !isNumber(drawn[i + 1]));
    const bin = times.length > 1 ? times[1] - times[0] : 60;
    // The highest series is drawn first, so that the lower ones are in front of it.
    const order = series.map((_, n) => n);
    if (stacked) order.reverse();
    const show = value =>
      !isNumber(value)
        ? '–'
        : unit === 'ms'
          ? value >= 10000
            ? `${Math.round(value / 1000)} s`
            : `${Math.round(value)} ms`
          : String(Math.round(value * 10) / 10);
    const axis = {
      stroke: ink,
      grid: { stroke: grid, width: 1 },
      ticks: { stroke: grid, width: 1 },
      font: '11px ui-sans-serif, system-ui, sans-serif',
    };
    const width = picture.clientWidth;
    const made = document.createElement('div');
    const id = figure.querySelector('figcaption').textContent;
    const plot = new UPlot(
      {
        width,
        height: 190,
        legend: { show: false },
        cursor: { y: false, points: { size: 5 } },
        // The last bar begins at the last time and needs room to its right.
        scales: {
          x: { time: true, range: (_, low, high) => [low, stacked && high === times.at(-1) ? high + bin : high] },
          y: { range: (_, __, high) => [0, Math.max(1, high * 1.05)] },
        },
        tzDate: seconds => UPlot.tzDate(new Date(seconds * 1e3), 'UTC'),
        axes: [
          { ...axis, size: 28, space: 60, values: (_, ticks) => ticks.map(at => clock(at, ticks)) },
          { ...axis, size: 60, values: (_, ticks) => ticks.map(show) },
        ],
        series: [
          {},
          ...order.map(n => ({
            label: series[n].name,
            stroke: colour(series[n].kind),
            width: stacked ? 0 : 1.5,
            points: stacked ? { show: false } : { show: true, size: 4, filter: () => isolated(heights[n]) },
            ...(stacked && { fill: colour(series[n].kind), paths: UPlot.paths.bars({ size: [0.9, 40], align: 1 }) }),
          })),
        ],
        hooks: {
          setScale: [
            (self, key) => {
              if (key !== 'x') return;
              const { min, max } = self.scales.x;
              if (min > times[0] || max < times.at(-1)) zoomed.add(id);
              else zoomed.delete(id);
            },
          ],
          setCursor: [
            self => {
              const { idx } = self.cursor;
              const at = new Date((times[idx] ?? 0) * 1000).toISOString().slice(0, 16).replace('T', ' ');
              const values = series.map(each => `${each.name} ${show(each.values[idx])}`).join(', ');
              figure.title = idx === null || idx === undefined ? '' : `${at} UTC: ${values}`;
            },
          ],
        },
      },
      [times, ...order.map(n => heights[n])],
      made,
    );
    picture.replaceChildren(made);
    picture.dataset.drawn = '';
    new ResizeObserver(() => plot.setSize({ width: picture.clientWidth, height: 190 })).observe(picture);
  }
}

if (document.querySelector('[data-plot]')) {
  const style = document.createElement('link');
  style.rel = 'stylesheet';
  style.href = new URL('./uplot.css', import.meta.url).href;
  document.head.append(style);
  draw(document).catch(() => {});
}
