/** Prometheus' text format, as far as the live panel reads it, and what histograms tell. */

/**
 * @param {string} text
 * @returns {Array<{name: string, labels: Object<string, string>, value: number}>}
 */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value;
    samples.push({ name: match[1], labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return samples;
}

/** The sum of a metric's samples that `fits` lets through. */
export function total(samples, name, fits = () => true) {
  return samples.reduce((sum, one) => (one.name === name && fits(one.labels) ? sum + one.value : sum), 0);
}

/** A histogram's counts by upper bound, each bucket without those below it: `[[bound, count], ...]`. */
export function histogram(samples, name, fits = () => true) {
  const sums = new Map();
  for (const { name: one, labels, value } of samples) {
    if (one !== `${name}_bucket` || !fits(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  const cumulative = [...sums].sort(([a], [b]) => a - b);
  return cumulative.map(([bound, sum], index) => [bound, sum - (index ? cumulative[index - 1][1] : 0)]);
}

/** What a later histogram has that an earlier one had not. */
export function since(later, earlier) {
  const before = new Map(earlier);
  return later.map(([bound, count]) => [bound, Math.max(0, count - (before.get(bound) ?? 0))]);
}

/** A quantile, interpolated within its bucket as Prometheus' `histogram_quantile` does; `null` of nothing. */
export function quantile(buckets, share) {
  const all = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (!all) return null;
  let below = 0;
  let low = 0;
  for (const [bound, count] of buckets) {
    if (count && below + count >= share * all) {
      return bound === Infinity ? low : low + (bound - low) * ((share * all - below) / count);
    }
    below += count;
    low = bound;
  }
  return low;
}
