/** A point that a memoised machine has reached: its number stands for everything that it keeps. */
export interface MemoNode<View> {
  readonly id: number;
  /** What the explorer may see of it. */
  readonly view: View;
}

interface Inner<Input, View> extends MemoNode<View> {
  readonly inputs: readonly Input[];
  readonly next: Map<string, Step<View>>;
}

export interface Step<View> {
  readonly node: MemoNode<View>;
  /** What the machine threw at this input, or null. Its state is that after the throw. */
  readonly error: string | null;
}

/** Thrown where a result is not known yet: the explorer awaits `ready` and does the same again. */
export class Miss extends Error {
  readonly ready: Promise<void>;
  constructor(ready: Promise<void>) {
    super('not known yet');
    this.ready = ready;
  }
}

/**
 * A machine of the product that cannot be copied, as a table of states and transitions: a state is reached by feeding
 * its inputs to a fresh machine, which happens once for each state and input. States that cannot be told apart are one.
 */
export class Memo<Input, Machine, View> {
  readonly #create: () => Machine | Promise<Machine>;
  readonly #feed: (machine: Machine, input: Input) => void | Promise<void>;
  readonly #look: (machine: Machine, inputs: readonly Input[]) => View | Promise<View>;
  readonly #dispose: (machine: Machine) => void | Promise<void>;
  readonly #nodes: Inner<Input, View>[] = [];
  readonly #known = new Map<string, Inner<Input, View>>();
  #root: Inner<Input, View> | null = null;

  /** `look`: the view, which as JSON must tell states apart; it may spoil the machine. */
  constructor(options: {
    readonly create: () => Machine | Promise<Machine>;
    readonly feed: (machine: Machine, input: Input) => void | Promise<void>;
    readonly look: (machine: Machine, inputs: readonly Input[]) => View | Promise<View>;
    readonly dispose?: (machine: Machine) => void | Promise<void>;
  }) {
    this.#create = options.create;
    this.#feed = options.feed;
    this.#look = options.look;
    this.#dispose = options.dispose ?? (() => undefined);
  }

  /** Distinct states seen. */
  get size(): number {
    return this.#nodes.length;
  }

  root(): MemoNode<View> {
    if (this.#root === null) throw new Miss(this.#reach([]).then(({ node }) => void (this.#root = node)));
    return this.#root;
  }

  at(id: number): MemoNode<View> {
    return this.#nodes[id]!;
  }

  /** A machine in this state. */
  async machine(id: number): Promise<Machine> {
    const machine = await this.#create();
    for (const input of this.#nodes[id]!.inputs) await this.#feed(machine, input);
    return machine;
  }

  step(id: number, input: Input): Step<View> {
    const from = this.#nodes[id]!;
    const key = JSON.stringify(input);
    const known = from.next.get(key);
    if (known !== undefined) return known;
    throw new Miss(this.#reach([...from.inputs, input]).then((step) => void from.next.set(key, step)));
  }

  async #reach(inputs: readonly Input[]): Promise<{ node: Inner<Input, View>; error: string | null }> {
    const machine = await this.#create();
    let error: string | null = null;
    for (const [i, input] of inputs.entries()) {
      try {
        await this.#feed(machine, input);
      } catch (reason) {
        // What was thrown earlier was told then.
        if (i === inputs.length - 1) error = reason instanceof Error ? reason.message : String(reason);
      }
    }
    const view = await this.#look(machine, inputs);
    await this.#dispose(machine);
    const fingerprint = JSON.stringify(view);
    let node = this.#known.get(fingerprint);
    if (node === undefined) {
      node = { id: this.#nodes.length, view, inputs, next: new Map() };
      this.#nodes.push(node);
      this.#known.set(fingerprint, node);
    }
    return { node, error };
  }
}

/** Numbers for values that are told apart by their JSON: they stand for them in states. */
export class Interned<T> {
  readonly #values: T[] = [];
  readonly #numbers = new Map<string, number>();

  number(value: T): number {
    const key = JSON.stringify(value);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.#values.push(value) - 1;
      this.#numbers.set(key, number);
    }
    return number;
  }

  at(number: number): T {
    return this.#values[number]!;
  }
}
