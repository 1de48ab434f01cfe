import type { ShardEntry } from '../../shared/checkpoint/manifest.ts';
import type { HeldShard, KeptCommit } from '../../shared/rpc/held-shard.ts';
import type { MemberSession } from '../../shared/rpc/member-session.ts';

/** Mask commits and shard files that are kept for a scheduler that takes over. */
const KEPT_COMMITS = 8;
const KEPT_FILES = 4;

interface WrittenShard {
  readonly clock: number;
  readonly maskEpoch: number;
  readonly shard: ShardEntry;
}

/** What a server of one generation tells a scheduler that takes over, for the one before may not have taken it in. */
export class Handover {
  #holding: number | null = null;
  #stopAt: number | null = null;
  #commits: KeptCommit[] = [];
  #written: WrittenShard[] = [];

  /** It waits for the mask commit of `step`. */
  holds(step: number): void {
    this.#holding = step;
  }

  /** It trains. */
  goesOn(): void {
    this.#holding = null;
  }

  stopsAt(clock: number): void {
    this.#stopAt = clock;
  }

  /** A commit that came before is not kept again. */
  committed(commit: KeptCommit): void {
    if (this.#commits.some(({ maskEpoch }) => maskEpoch >= commit.maskEpoch)) return;
    this.#commits = [...this.#commits, commit].slice(-KEPT_COMMITS);
  }

  wrote(written: WrittenShard): void {
    this.#written = [...this.#written, written].slice(-KEPT_FILES);
  }

  /** `clock`, `maskEpoch`: of its newest answers. */
  heldShard(generation: number, clock: number, maskEpoch: number): HeldShard {
    return {
      generation,
      clock: this.#holding ?? clock,
      maskEpoch,
      stopAt: this.#stopAt,
      commits: this.#commits,
    };
  }

  tellAgain(session: MemberSession, generation: number): void {
    for (const { shard, ...written } of this.#written)
      session.report({ shardWritten: { generation, ...written, shard: JSON.stringify(shard) } });
    if (this.#holding !== null) session.report({ hold: { generation, step: this.#holding } });
  }
}
