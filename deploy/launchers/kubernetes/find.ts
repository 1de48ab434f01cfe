import { basename } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import { type ClusterApi, connectCluster } from './api.ts';
import { JOB_SET } from './job-set.ts';
import { type RunNames, runNames } from './names.ts';
import { readClusterRecord } from './record.ts';

/** A run that is a JobSet on a cluster. */
export interface ClusterRun {
  readonly api: ClusterApi;
  readonly names: RunNames;
  readonly sizes: Readonly<Record<Role, number>>;
}

export interface ClusterOptions {
  /** Where the run is, as the user says; undefined: what the run directory here says. */
  readonly on: string | undefined;
  readonly namespace: string | undefined;
  readonly context: string | undefined;
  readonly runsDir: string;
}

/**
 * The run on a cluster that a user means, or null: it is a run of this machine's, or has ended and left its result
 * here. Errors: RUN_UNKNOWN where the cluster has no such run; what the API refuses.
 */
export async function findClusterRun(run: string | undefined, options: ClusterOptions): Promise<ClusterRun | null> {
  if (options.on !== undefined) {
    if (run === undefined)
      throw new WhittleError(
        'USAGE',
        `--on ${options.on} needs the run's id: whittle list shows those of this machine`,
      );
    const { namespace = null, context = null } = options;
    return onCluster(await connectCluster({ namespace, context }), basename(run));
  }
  const directory = await localDirectory(run, options.runsDir);
  const record = directory === null ? null : await readClusterRecord(directory.path);
  if (directory === null || record === null || (await directory.readResult()) !== null) return null;
  return onCluster(await connectCluster(record), record.runId);
}

async function localDirectory(run: string | undefined, runsDir: string): Promise<RunDirectory | null> {
  if (run === undefined) return (await RunDirectory.list(runsDir))[0] ?? null;
  // Whoever looks for it next says what is wrong.
  return RunDirectory.resolve(runsDir, run).catch(() => null);
}

async function onCluster(api: ClusterApi, runId: string): Promise<ClusterRun> {
  const names = runNames(runId, api.namespace);
  const jobSet = await api.read({ ...JOB_SET, name: names.jobSet });
  if (jobSet === null)
    throw new WhittleError(
      'RUN_UNKNOWN',
      `no run ${runId} on the cluster: namespace ${api.namespace} of context ${api.context} has no JobSet ${names.jobSet}; name others with --namespace and --context`,
      { data: { runId, namespace: api.namespace, context: api.context } },
    );
  return { api, names, sizes: sizesOf(jobSet) };
}

function sizesOf(jobSet: object): Record<Role, number> {
  const { spec } = jobSet as {
    readonly spec?: {
      readonly replicatedJobs?: readonly {
        readonly name: string;
        readonly template: { readonly spec: { readonly parallelism?: number } };
      }[];
    };
  };
  const of = (role: Role): number =>
    spec?.replicatedJobs?.find(({ name }) => name === role)?.template.spec.parallelism ?? 0;
  return { scheduler: of('scheduler'), server: of('server'), worker: of('worker') };
}
