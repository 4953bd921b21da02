// Formats numbers, times and states.

/** Formats a count as 999, 1.2k, 340k or 1.5M. */
export function short(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return "-";
  let unit = 0;
  while (number >= 999.5 && unit < 4) {
    number /= 1000;
    unit += 1;
  }
  const digits = number > 0 && number < 9.95 && (unit > 0 || number % 1 !== 0) ? 1 : 0;
  return number.toFixed(digits) + ["", "k", "M", "G", "T"][unit];
}

/** Formats milliseconds like the command line: 350ms, 4.2s, 5m3s, 2h4m, 3d2h. */
export function duration(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return `${ms}ms`;
  if (seconds < 10) return `${(ms / 1000).toFixed(1)}s`;
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86400)}d${Math.floor((seconds % 86400) / 3600)}h`;
}

/** The CSS class of a state. Colour never stands alone: the state is always written out too. */
export function tone(state) {
  switch (state) {
    case "up":
    case "established":
    case "two-way":
    case "active":
      return "good";
    case "degraded":
    case "drain":
    case "maint":
    case "opening":
    case "listen":
    case "leaving":
      return "warn";
    case "down":
    case "lost":
    case "fault":
      return "bad";
    default:
      return "";
  }
}

/** Formats a round-trip time in microseconds. */
export function roundTrip(us) {
  if (us === null || us === undefined) return "-";
  return us < 1000 ? `${us}us` : `${(us / 1000).toFixed(2)}ms`;
}

/** Formats an address with a port. */
export function withPort(address, port) {
  if (!port) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
