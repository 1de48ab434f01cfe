import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'mocha';
import { loadRunFile } from '../../shared/config/run-file.ts';
import { packageRoot } from '../../shared/package-root.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { Engine } from '../../worker/training/engine.ts';
import { temporaryFolder } from '../fixtures/user-module.ts';
import { writeCheckpoint } from './export/support.ts';

const example = (name: string): string => join(packageRoot, 'deploy', 'examples', name);

describe('examples that build on trained models, cluster or recalibrate', () => {
  const folder = temporaryFolder();
  let checkpoint: string;

  before(async () => {
    // Stands for the run of dense.yaml: its model and data, untrained.
    const { config } = await describeJob(loadRunFile(example('dense.yaml')));
    const engine = await Engine.create({ config });
    ({ folder: checkpoint } = await writeCheckpoint(join(folder.path, 'dense-mnist'), engine, { config }));
    engine.dispose();
    folder.write('dense-mnist/run.yaml', '');
  });
  after(() => rm(checkpoint, { recursive: true, force: true }));

  it('are run files that fit their models, data and the run they name', async () => {
    const configOf = async (name: string) => {
      const { config, warnings } = await describeJob(loadRunFile(example(name)), { runsDirectory: folder.path });
      assert.deepEqual(warnings, [], name);
      return config;
    };
    assert.deepEqual((await configOf('prune-trained.yaml')).initialize, { from: checkpoint });
    assert.equal((await configOf('distillation.yaml')).distillation?.teacher, checkpoint);
    assert.equal((await configOf('clustering.yaml')).clustering?.beginStep, 1407); // 3 x 60,000 / 128
    assert.deepEqual((await configOf('recalibrate.yaml')).recalibrate, { batches: 50 });
  });

  it('say which run is missing', async () => {
    const runsDirectory = join(folder.path, 'none');
    const started = { set: [`initialize.from=${checkpoint}`] };
    for (const [key, runFile] of [
      ['initialize.from', loadRunFile(example('prune-trained.yaml'))],
      ['distillation.teacher', loadRunFile(example('distillation.yaml'), started)],
    ] as const) {
      await assert.rejects(describeJob(runFile, { runsDirectory }), (error: Error) =>
        error.message.includes(`${key}: dense-mnist is neither a run in`),
      );
    }
  });
});
