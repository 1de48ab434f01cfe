import { WhittleError } from '../../../shared/errors.ts';
import { readRoleEnvironment } from '../../launchers/environment.ts';
import { defineCommand, type Context } from '../command.ts';
import { memberOptions } from '../member.ts';
import { requireCounts, withPlace } from '../role-environment.ts';

export const command = defineCommand({
  name: 'role',
  description:
    'Run the role that the environment names, so that one command line serves every process of a job.\n' +
    'Understood are TF_CONFIG (chief is the scheduler, ps a server, worker a worker), DMLC_ROLE with DMLC_PS_ROOT_URI, DMLC_PS_ROOT_PORT, DMLC_NUM_SERVER and DMLC_NUM_WORKER, ' +
    'and SLURM_PROCID with --servers and --workers: task 0 is the scheduler, then come servers, then workers. Options win over the environment.',
  options: {
    ...memberOptions,
    servers: { type: 'integer', label: 'N', min: 1, description: 'servers of the job, for SLURM_PROCID' },
    workers: { type: 'integer', label: 'N', min: 1, description: 'workers of the job, for SLURM_PROCID' },
    resume: {
      type: 'string',
      label: 'CHECKPOINT',
      description:
        'for the scheduler: continue from this checkpoint folder of the run, or from the newest usable one (`newest`)',
    },
    recover: { type: 'boolean', description: 'for the scheduler: take the place of one that is gone' },
  },
  examples: [
    {
      command: 'role --run-dir runs/lenet',
      effect: 'join the run as TF_CONFIG or DMLC_ROLE says',
    },
    {
      command: 'role --run-dir runs/lenet --servers 2 --workers 4',
      effect: 'the same for each of 7 tasks, as in `srun --ntasks=7 whittle role ...`',
    },
  ],
  handler: async ({ options, json, output, signal }) => {
    const { servers, workers } = options;
    if ((servers === undefined) !== (workers === undefined))
      throw new WhittleError('USAGE', 'give --servers and --workers together: they lay out the tasks of SLURM_PROCID');
    const layout = servers === undefined || workers === undefined ? null : { servers, workers };
    const place = readRoleEnvironment(process.env, layout);
    if (place.role === null)
      throw new WhittleError(
        'USAGE',
        'the environment names no role: set TF_CONFIG or DMLC_ROLE, or give --servers and --workers under srun (SLURM_PROCID)',
      );
    requireCounts(place, options.runDir);
    const { command: role } = await ROLES[place.role]();
    const context = { arguments: {}, options: withPlace(options, place), json, output, signal };
    // Each role takes from these what it knows.
    return role.handler(context as unknown as Context<never, never>);
  },
});

const ROLES = {
  scheduler: () => import('./scheduler.ts'),
  server: () => import('./server.ts'),
  worker: () => import('./worker.ts'),
};
