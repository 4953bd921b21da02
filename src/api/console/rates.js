// Rates per second of counters, between the last two answers.

const LENGTH = 60;

export class Rates {
  #last = new Map();
  #rates = new Map();
  #trends = new Map();
  #at = 0;

  /** Begins a round at `now`, in milliseconds. */
  begin(now) {
    this.elapsed = this.#at ? (now - this.#at) / 1000 : 0;
    this.#at = now;
    this.#rates = new Map();
  }

  /** Notes the value of a counter. A counter that fell belongs to an engine that was restarted, and has no rate. */
  note(key, value) {
    const before = this.#last.get(key);
    this.#last.set(key, value);
    if (before === undefined || this.elapsed <= 0 || value < before) return;
    const rate = (value - before) / this.elapsed;
    this.#rates.set(key, rate);
    const trend = this.#trends.get(key) ?? [];
    trend.push(rate);
    if (trend.length > LENGTH) trend.shift();
    this.#trends.set(key, trend);
  }

  /** The rate per second; null until there were two answers. */
  of(key) {
    return this.#rates.get(key) ?? null;
  }

  /** The rates of the last minute or two, oldest first. */
  trend(key) {
    return this.#trends.get(key) ?? [];
  }
}
