/** `1.07 MB`: decimal units, three digits. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  // 999.5 would be shown as 1000.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit] ?? 'B'}`;
}

/** `0.8 s`, `42 s`, `3 min 05 s`, `2 h 04 min`, `3 d 02 h`. */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (value: number): string => String(value).padStart(2, '0');
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86_400)} d ${two(Math.floor((whole % 86_400) / 3600))} h`;
}

/** A fraction as `97.85 %`. 100 % and 0 % are kept for what is exactly so. */
export function formatPercent(fraction: number, digits = 2): string {
  const text = (100 * fraction).toFixed(digits);
  const hundred = (100).toFixed(digits);
  const zero = (0).toFixed(digits);
  if (text === hundred && fraction < 1) return `>${(100 - 1 / Number(`1e${digits}`)).toFixed(digits)} %`;
  if (text === zero && fraction > 0) return `<${(1 / Number(`1e${digits}`)).toFixed(digits)} %`;
  return `${text} %`;
}

/** `266,610`. */
export function formatCount(count: number): string {
  return Math.round(count).toLocaleString('en-US');
}

/** Seconds since an ISO time; null when it is none. */
export function ageInSeconds(iso: string, now: number): number | null {
  const at = Date.parse(iso);
  return Number.isNaN(at) ? null : Math.max(0, (now - at) / 1000);
}
