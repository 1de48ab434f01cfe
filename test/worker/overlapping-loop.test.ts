import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RunConfig } from '../../shared/config/types.ts';
import { SliceAssignment } from '../../worker/assignment.ts';
import type { TrainingLoopOptions } from '../../worker/loop-waits.ts';
import { trainOverlapping } from '../../worker/overlapping-loop.ts';
import { Pulse } from '../../worker/pulse.ts';
import type { PulledWeights, ServerLinks, SlicePush } from '../../worker/server-links.ts';
import type { ComputeClient } from '../../worker/training/compute-client.ts';
import { engineConfig } from '../fixtures/config.ts';

const STEPS = 12;

type Answers = PulledWeights & { readonly newest: number };

/** One server, which completes a step when all slices of it are there, and a worker of which every act is written down. */
class Scene {
  readonly news = new Pulse();
  readonly assignment = new SliceAssignment(this.news);
  /** `step/slice@clock of the weights that it was computed with`, a star for the last of its step. */
  readonly pushed: string[] = [];
  readonly kept: string[] = [];
  readonly unavailable: number[] = [];
  readonly exact = new Set<number>();
  wanted: number[] = [];
  gradient = (): Float32Array => Float32Array.of(1);
  /** Called at the beginning of each computation. */
  onCompute: (step: number, slice: number) => void = () => undefined;
  readonly #mode: 'ssp' | 'asp';
  readonly #staleness: number;
  readonly #slices: number;
  readonly #have = new Map<number, Set<number>>();
  readonly #controller = new AbortController();
  #version = 0;
  #clock = 0;
  #weights = -1;
  #asked: number | null = null;
  #answer: Answers | null = null;
  readonly loop: Promise<unknown>;

  constructor(mode: 'ssp' | 'asp', staleness: number, slices: number, own: readonly number[]) {
    this.#mode = mode;
    this.#staleness = staleness;
    this.#slices = slices;
    this.assign(own);
    this.loop = Promise.resolve()
      .then(() => trainOverlapping(this.#options()))
      .catch((reason: unknown) => reason);
  }

  assign(slices: readonly number[]): void {
    this.assignment.set({ version: ++this.#version, slices: [...slices], backups: [] });
  }

  /** A slice that another worker computed. */
  others(step: number, slice: number): void {
    this.#take(step, slice);
    this.news.beat();
  }

  /** Lets the worker do all that it can. */
  async quiet(): Promise<void> {
    for (let turn = 0; turn < 200; turn += 1) await nextTurn();
  }

  async end(): Promise<unknown> {
    this.#controller.abort();
    this.news.beat();
    return this.loop;
  }

  #take(step: number, slice: number): void {
    this.#have.set(step, (this.#have.get(step) ?? new Set<number>()).add(slice));
    while (this.#have.get(this.#clock + 1)?.size === this.#slices) this.#clock += 1;
    this.#offer();
  }

  #offer(): void {
    if (this.#asked === null || this.#clock < this.#asked) return;
    this.#asked = null;
    this.#answer = this.#weightsOf(this.#clock);
    this.news.beat();
  }

  #ask(clock: number): void {
    this.#answer = null;
    this.#asked = clock;
    this.#offer();
  }

  #weightsOf(clock: number): Answers {
    return { clock, newest: clock, maskEpoch: 0, packed: new Float32Array(1), state: new Float32Array(0), mask: null };
  }

  #takeAnswer(): Answers {
    const answer = this.#answer;
    assert.ok(answer);
    this.#answer = null;
    return answer;
  }

  #options(): TrainingLoopOptions {
    const base = engineConfig({}, this.#slices);
    const config: RunConfig = {
      ...base,
      consistency: { mode: this.#mode, staleness: this.#staleness, backupWorkers: 0 },
      training: { ...base.training, steps: STEPS },
    };
    const hasAnswer = (): boolean => this.#answer !== null;
    const links: Partial<ServerLinks> = {
      check: () => undefined,
      get answered() {
        return hasAnswer();
      },
      takeAnswers: () => this.#takeAnswer(),
      askForAtLeast: async (clock) => this.#ask(clock),
      pullAtLeast: async (clock, wait) => {
        this.#ask(clock);
        while (!hasAnswer()) await wait();
        return this.#takeAnswer();
      },
      pullExactly: async (clock) => (this.exact.has(clock) ? this.#weightsOf(clock) : null),
      push: async ({ step, slice, last }: SlicePush) => {
        this.pushed.push(`${step}/${slice}@${this.#weights}${last ? '*' : ''}`);
        if (last) this.#ask(this.#mode === 'ssp' ? Math.max(0, step - this.#staleness) : 0);
        this.#take(step, slice);
      },
    };
    const compute: Partial<ComputeClient> = {
      setWeights: async (_packed, _state, clock) => void (this.#weights = clock),
      gradient: async (step, slice) => {
        this.onCompute(step, slice);
        await nextTurn();
        return { loss: 0, examples: 1, gradient: this.gradient(), stateDelta: new Float32Array(0) };
      },
      keepForEvaluation: async (clock) => void this.kept.push(`${clock}@${this.#weights}`),
    };
    return {
      config,
      links: links as ServerLinks,
      compute: compute as ComputeClient,
      assignment: this.assignment,
      news: this.news,
      onClock: () => undefined,
      onEvaluable: (clock) => void (this.wanted = this.wanted.filter((each) => each !== clock)),
      onUnavailable: (clock) => {
        this.unavailable.push(clock);
        this.wanted = this.wanted.filter((each) => each !== clock);
      },
      wantedEvaluations: () => this.wanted,
      signal: this.#controller.signal,
    };
  }
}

describe('a worker whose steps overlap', () => {
  let scene: Scene;
  const begin = async (...given: ConstructorParameters<typeof Scene>): Promise<void> => {
    scene = new Scene(...given);
    await scene.quiet();
  };
  afterEach(() => scene.end());

  it('ssp: computes a step of clock c on weights of clock c - staleness or later, and waits for no others', async () => {
    await begin('ssp', 3, 2, [0]);
    // Step 5 needs clock 1, which needs the slice of another.
    assert.deepEqual(scene.pushed, ['1/0@0*', '2/0@0*', '3/0@0*', '4/0@0*']);
    scene.others(1, 1);
    await scene.quiet();
    assert.deepEqual(scene.pushed.slice(4), ['5/0@1*']);
    for (const step of [2, 3, 4]) scene.others(step, 1);
    await scene.quiet();
    assert.deepEqual(scene.pushed.slice(5).length, 3);
    for (const each of scene.pushed) {
      const [, step, clock] = /^(\d+)\/0@(\d+)/.exec(each) ?? [];
      assert.ok(Number(clock) >= Number(step) - 1 - 3, each);
    }
  });

  it('ssp: begins at the first step that is not complete, on the newest weights', async () => {
    await begin('ssp', 1, 2, []);
    for (const step of [1, 2, 3]) for (const slice of [0, 1]) scene.others(step, slice);
    scene.assign([0]);
    await scene.quiet();
    assert.deepEqual(scene.pushed, ['4/0@3*', '5/0@3*']);
  });

  it('asp: waits for nobody', async () => {
    await begin('asp', 0, 2, [0]);
    assert.deepEqual(
      scene.pushed,
      Array.from({ length: STEPS }, (_, i) => `${i + 1}/0@0*`),
    );
  });

  it('pushes its slices of a step one by one, the last as such, and stops at the last step', async () => {
    await begin('ssp', 2, 2, [0, 1]);
    assert.equal(scene.pushed.length, 2 * STEPS);
    assert.deepEqual(scene.pushed.slice(0, 4), ['1/0@0', '1/1@0*', '2/0@0', '2/1@0*']);
  });

  it('begins a slice that is handed over at the first step that is not complete, also while it waits itself', async () => {
    await begin('ssp', 3, 2, [0]);
    scene.others(1, 1);
    await scene.quiet();
    assert.equal(scene.pushed.at(-1), '5/0@1*');
    scene.assign([0, 1]);
    await scene.quiet();
    // Slice 1 of step 1 is there; the servers wait for that of step 2.
    assert.deepEqual(
      scene.pushed.slice(5, 9).map((each) => each.split('@')[0]),
      ['2/1', '3/1', '4/1', '5/1'],
    );
    assert.equal(scene.pushed.at(-1)?.split('@')[0], `${STEPS}/1`);
  });

  it('computes no slice that was taken away', async () => {
    await begin('ssp', 3, 3, [0, 1]);
    const before = scene.pushed.length;
    scene.assign([1]);
    for (const step of [1, 2]) scene.others(step, 2);
    await scene.quiet();
    assert.deepEqual(
      scene.pushed.slice(before).map((each) => each.split('@')[0]),
      ['5/1', '6/1'],
    );
  });

  it('ssp: keeps to its bound where the slice that would have asked for fresh weights was taken away', async () => {
    await begin('ssp', 3, 3, [0, 1]);
    scene.onCompute = (step, slice) => {
      if (step === 5 && slice === 0) scene.assign([0]);
    };
    scene.others(1, 2);
    await scene.quiet();
    // Step 6 needs clock 2.
    assert.deepEqual(scene.pushed.slice(8), ['5/0@1']);
    scene.others(2, 2);
    await scene.quiet();
    assert.deepEqual(scene.pushed.slice(9), ['6/0@2*']);
  });

  it('leaves with the slice that is under way', async () => {
    await begin('asp', 0, 1, []);
    scene.onCompute = (step) => {
      if (step === 3) scene.assignment.leave();
    };
    scene.assign([0]);
    assert.equal(await scene.loop, undefined);
    assert.deepEqual(
      scene.pushed.map((each) => each.split('@')[0]),
      ['1/0', '2/0', '3/0'],
    );
  });

  it('keeps the weights of exactly the clock to evaluate, says where they are gone, and trains on on fresh ones', async () => {
    await begin('ssp', 3, 2, [0]);
    scene.exact.add(1);
    scene.wanted = [1, 7];
    scene.others(1, 1);
    scene.others(2, 1);
    await scene.quiet();
    assert.deepEqual([scene.kept, scene.unavailable], [['1@1'], [7]]);
    assert.deepEqual(scene.pushed.slice(4), ['5/0@2*', '6/0@2*']);
  });

  it('ends with what made a gradient no finite number', async () => {
    await begin('asp', 0, 1, []);
    scene.gradient = () => Float32Array.of(Number.NaN);
    scene.assign([0]);
    const reason = await scene.loop;
    assert.match(String(reason), /\[NOT_FINITE\] the gradient of step 1, slice 0/);
    assert.deepEqual(scene.pushed, []);
  });
});
