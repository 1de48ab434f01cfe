/**
 * The parts of a sum that every server, itself among them, gives to a step. Early parts wait; a repeated one changes
 * nothing.
 */
export class PeerParts<Node> {
  readonly #servers: number;
  readonly #parts = new Map<number, Map<number, readonly Node[]>>();
  #taken = 0;

  constructor(servers: number) {
    this.#servers = servers;
  }

  add(step: number, sender: number, nodes: readonly Node[]): void {
    if (step <= this.#taken) return;
    let parts = this.#parts.get(step);
    if (!parts) this.#parts.set(step, (parts = new Map<number, readonly Node[]>()));
    parts.set(sender, nodes);
  }

  /** Takes out the nodes of a step once the parts of all servers are there; else null. */
  take(step: number): readonly Node[] | null {
    const parts = this.#parts.get(step);
    if (!parts || parts.size < this.#servers) return null;
    this.#parts.delete(step);
    this.#taken = step;
    return [...parts.values()].flat();
  }
}
