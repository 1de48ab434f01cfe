import type { GuardNote, GuardRecord } from '../sparsity/guard.ts';

/** What `status` shows and the scheduler's Status and Watch rpcs answer, as JSON; also `status.json` in the run directory. */
export interface RunStatus {
  readonly runId: string;
  readonly runDirectory: string;
  readonly state: RunState;
  /** What the run waits for or does now, in words: "waiting for 2 servers", "training", "writing checkpoint 468". */
  readonly activity: string;
  readonly generation: number;
  readonly step: number;
  readonly totalSteps: number;
  readonly loss: number | null;
  readonly testAccuracy: number | null;
  /** Clock of testAccuracy. */
  readonly evaluatedAt: number | null;
  readonly testLoss: number | null;
  readonly learningRate: number;
  /** Sparsity the schedules ask for and the mask has, over the elements that rules match; 0 without rules. */
  readonly targetSparsity: number;
  /** Masks come to about the target: rules of neurons and filters, rules that overlap. */
  readonly isTargetEstimated?: boolean;
  readonly sparsity: number;
  readonly maskEpoch: number;
  readonly examplesPerSecond: number;
  readonly bytesPerStep: number;
  readonly secondsLeft: number | null;
  readonly lastCheckpoint: { readonly step: number; readonly at: string } | null;
  readonly members: readonly MemberStatus[];
  readonly scheduler: { readonly address: string; readonly pid: number; readonly host: string };
  readonly startedAt: string;
  readonly updatedAt: string;
  readonly failure: RunFailure | null;
  /** Absent: no guard. */
  readonly guard?: GuardRecord;
  /** What a scheduler that takes over counts on from; as of `step`. */
  readonly totals: {
    readonly resumedFrom: number | null;
    readonly stepsComputed: number;
    readonly slicesByWorker: Readonly<Record<string, number>>;
    readonly bytes: { readonly pushed: number; readonly pulled: number; readonly masks: number };
    /** By server. */
    readonly sockets?: Readonly<Record<string, SocketTotals>>;
    readonly recoveries: readonly Recovery[];
  };
}

/** Bytes that crossed a server's sockets: of its processes that ended, and of the one that runs. */
export interface SocketTotals {
  readonly ended: number;
  readonly now: number;
}

/** A loss that the run recovered from by itself. */
export interface Recovery {
  readonly cause: string;
  /** Where the run stood. */
  readonly step: number;
  /** Clock of the checkpoint it went back to; null where nothing was lost and it went on. */
  readonly resumedFrom: number | null;
  /** From the loss until the run was further than `step`; 0 where it never got there. */
  readonly pauseSeconds: number;
}

export const RUN_STATES = ['PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED', 'STOPPED'] as const;
export type RunState = (typeof RUN_STATES)[number];
export type Role = 'scheduler' | 'server' | 'worker';

export interface MemberStatus {
  readonly role: Role;
  readonly rank: number;
  readonly address: string;
  readonly pid: number;
  readonly host: string;
  readonly clock: number;
  readonly secondsSinceHeartbeat: number;
  readonly slices: readonly number[];
  readonly rssBytes: number;
  /** A worker's time for a step, from the weights of the step before to its last slice; null where not known. */
  readonly stepMilliseconds: { readonly median: number; readonly p90: number } | null;
}

/** The first failure of a run: which role, what, and its stack where it is not a user's error. */
export interface RunFailure {
  readonly role: Role;
  readonly rank: number;
  readonly code: string;
  readonly message: string;
  readonly stack: string;
  readonly step: number;
}

/** `result.json`, and the last line of `launch --json` and `resume --json`. */
export interface RunResult {
  readonly runId: string;
  readonly runDirectory: string;
  readonly state: RunState;
  readonly step: number;
  readonly totalSteps: number;
  /** Clock of the checkpoint that this launch or resume started from, or null for a new run. */
  readonly resumedFrom: number | null;
  /** Steps applied by this process group, those done again after a resume included. */
  readonly stepsComputed: number;
  /** Slices applied, by the rank of the worker that computed them; empty where no scheduler lived to tell. */
  readonly slicesByWorker: Readonly<Record<string, number>>;
  readonly recoveries: readonly Recovery[];
  readonly loss: number | null;
  readonly testAccuracy: number | null;
  /** Clock of testAccuracy and testLoss; `sparsity` is that of `step`, which may be later. */
  readonly evaluatedAt: number | null;
  readonly testLoss: number | null;
  /** Of the elements that sparsity rules match. */
  readonly sparsity: number;
  /** Dead of all parameters, biases and normalisations too, counted from the mask of `checkpoint`; null without one. */
  readonly parameterSparsity: number | null;
  readonly maskEpoch: number;
  readonly maskDigest: string | null;
  readonly weightsDigest: string | null;
  readonly stateDigest: string | null;
  readonly wallSeconds: number;
  readonly examplesPerSecond: number;
  /** Masks and control traffic are null where no scheduler lived to tell. */
  readonly bytes: {
    readonly pushed: number;
    readonly pulled: number;
    readonly masks: number | null;
    readonly control: number | null;
  };
  /** Bytes of values that the last step moved; null before the first. */
  readonly bytesPerStep: number | null;
  /** Absolute path of the newest checkpoint, which `resume` continues from and `layers` describe; null: none. */
  readonly checkpoint: string | null;
  readonly layers: readonly LayerResult[];
  readonly failure: RunFailure | null;
  /** Absent: no guard. */
  readonly guard?: GuardRecord;
}

export interface LayerResult {
  readonly name: string;
  /** Elements that the run began with. */
  readonly size: number;
  /** Dead elements that are no part of the model any more, since it was shrunk; absent: none. */
  readonly left?: number;
  readonly survivors: number;
  /** Survivors whose weight is exactly zero. */
  readonly zeroSurvivors: number;
  /** Some sparsity rule matches it; without rules: it is a kernel that one without `match` would. */
  readonly prunable: boolean;
  /** Neurons or filters whose values it makes, and those of them without a survivor. */
  readonly units: number;
  readonly deadUnits: number;
  /** Of its surviving float32 weights: what a pull moves and a server keeps, slots apart. */
  readonly bytes: number;
  /** Elements whose mask differs from that of the checkpoint before, of step `since`; null where none is kept. */
  readonly churn: { readonly since: number; readonly died: number; readonly regrown: number } | null;
}

/** One line of `metrics.jsonl`; one a step. */
export interface StepMetrics {
  readonly step: number;
  readonly loss: number;
  readonly sparsity: number;
  readonly maskEpoch: number;
  readonly seconds: number;
  readonly bytesPushed: number;
  readonly bytesPulled: number;
  /** Rank of the worker whose copy of slice k was applied. */
  readonly workers: readonly number[];
  /** Of mask steps at which a guard did other than the schedule, or since the last of which it decided something. */
  readonly guard?: GuardNote;
}
