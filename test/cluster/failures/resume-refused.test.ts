import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { assertQuiet, finish, goldenRunFile, whittle, withFolder, writeRunFile } from '../support.ts';

it('resuming or evaluating with another model shows what differs and changes nothing', function () {
  this.timeout(300_000);
  return withFolder(async (folder) => {
    const model = join(folder, 'model.ts');
    const write = (units: number, last: string, activation = 'relu', loss = ''): Promise<void> =>
      writeFile(
        model,
        `export const model = (tf) => tf.sequential({ layers: [
          tf.layers.dense({ units: ${units}, activation: '${activation}', inputShape: [20], name: 'first' }),
          tf.layers.dense({ units: 4, name: '${last}' })] });\n${loss}`,
      );
    await write(16, 'last');
    const runFile = await writeRunFile(folder, { ...goldenRunFile({ servers: 1, workers: 1 }), model });
    const result = await finish(['launch', runFile, '--runs-dir', folder, '--run-id', 'run']);
    const before = await readFile(join(folder, 'run', 'run.yaml'), 'utf8');
    await write(24, 'head');
    const longer = ['resume', result.runDirectory, '--set', 'training.steps=80'];
    const evaluate = ['evaluate', result.runDirectory];
    for (const command of [longer, evaluate]) {
      const end = await whittle(command);
      assert.equal(end.code, 1, end.stderr);
      for (const line of [
        '[CHECKPOINT]',
        'shape changed: parameter first/kernel was [20, 16], is [20, 24]',
        'missing: parameter last/kernel [16, 4]',
        'added: parameter head/kernel [24, 4]',
      ])
        assert.ok(end.stderr.includes(line), `${line} in:\n${end.stderr}`);
    }
    assert.equal(await readFile(join(folder, 'run', 'run.yaml'), 'utf8'), before);
    await assertQuiet(result.runDirectory);

    // The same tensors fit whatever is computed with them: a warning, and the user decides.
    await write(16, 'last', 'tanh', 'export const loss = (tf, labels, outputs) => tf.mean(outputs);');
    for (const command of [[...longer, '--dry-run'], evaluate]) {
      const end = await whittle(command);
      assert.equal(end.code, 0, end.stderr);
      assert.match(end.stderr, /^warning: the model changed since step-\S+ was written/m);
      assert.match(end.stderr, /layer first: activation was "relu", is "tanh"/);
      assert.match(end.stderr, /the loss was softmax cross-entropy on logits, is the module's own/);
    }
    await write(16, 'last');
    const same = await whittle(evaluate);
    assert.deepEqual([same.code, same.stderr], [0, '']);
    assert.equal((await finish(['resume', result.runDirectory, '--set', 'training.steps=80'])).resumedFrom, 60);

    // While a finished run is at hand: a scheduler that cannot listen says so and gives the directory back.
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const refused = await whittle(['scheduler', '--run-dir', result.runDirectory, '--port', String(port)]);
    taken.close();
    assert.equal(refused.code, 1, refused.stderr);
    assert.ok(
      refused.stderr.includes(`[PORT] cannot listen on 127.0.0.1:${port}: another process listens there`),
      refused.stderr,
    );
    await assertQuiet(result.runDirectory);
  });
});
