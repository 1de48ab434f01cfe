/** Union-find over whole numbers, each set represented by its smallest; a set may be fixed, with the first reason. */
export class Unions {
  readonly #parents: number[] = [];
  readonly #reasons = new Map<number, string>();

  /** `count` new sets of one; answers the first. */
  add(count: number): number {
    const first = this.#parents.length;
    for (let i = 0; i < count; i++) this.#parents.push(first + i);
    return first;
  }

  get size(): number {
    return this.#parents.length;
  }

  find(member: number): number {
    let root = member;
    while (this.#parents[root] !== root) root = this.#parents[root]!;
    for (let at = member; at !== root;) {
      const next = this.#parents[at]!;
      this.#parents[at] = root;
      at = next;
    }
    return root;
  }

  join(a: number, b: number): void {
    const [low, high] = [this.find(a), this.find(b)].sort((x, y) => x - y) as [number, number];
    if (low === high) return;
    this.#parents[high] = low;
    const reason = this.#reasons.get(low) ?? this.#reasons.get(high);
    if (reason !== undefined) this.#reasons.set(low, reason);
  }

  fix(member: number, reason: string): void {
    const root = this.find(member);
    if (!this.#reasons.has(root)) this.#reasons.set(root, reason);
  }

  /** Why the member's set is fixed, or null. */
  reason(member: number): string | null {
    return this.#reasons.get(this.find(member)) ?? null;
  }
}
