/** `1 server`, `2 servers`, `2 processes`. */
export function plural(count: number, noun: string, several = `${noun}s`): string {
  return `${count.toLocaleString('en-US')} ${count === 1 ? noun : several}`;
}
