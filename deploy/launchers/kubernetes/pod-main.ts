/** The main process of a run's pod: `node pod-main worker --run-dir /runs/ID ...`, as the manifests say. */
import { WhittleError } from '../../../shared/errors.ts';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import { ownEntry } from '../local.ts';
import { POD_EXIT } from './job-set.ts';
import { runPod } from './pod.ts';

const [role, ...args] = process.argv.slice(2);
const terminated = new AbortController();
process.on('SIGTERM', () => terminated.abort());
try {
  process.exitCode = await runPod({
    role: role as Role,
    args,
    env: process.env,
    command: process.execPath,
    entry: ownEntry(),
    signal: terminated.signal,
    print: (line) => process.stdout.write(`${line}\n`),
  });
} catch (reason) {
  const error = WhittleError.from(reason);
  // The last lines of a pod's log become its termination message.
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = error.isUserError ? POD_EXIT.failed : POD_EXIT.died;
}
