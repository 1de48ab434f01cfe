import assert from 'node:assert/strict';
import { allLauncherOptions, defineLauncher, launcherOptionsOf } from '../../../deploy/launchers/define.ts';
import { launcherOf } from '../../../deploy/launchers/registry.ts';

const time = { type: 'string', label: 'TIME', description: 'longest time' } as const;
const made: unknown[] = [];
const define = (name: string, options: Parameters<typeof defineLauncher>[0]['options']) =>
  defineLauncher({
    name,
    summary: `on ${name}`,
    options,
    create: (values) => {
      made.push(values);
      return { name, start: () => Promise.reject(new Error('not here')) };
    },
  });
const launchers = {
  batch: define('batch', { time, partition: { type: 'string', description: 'partition' } }),
  cloud: define('cloud', {
    time,
    nodeLabel: { type: 'strings', description: 'labels' },
    wait: { type: 'boolean', description: 'wait' },
  }),
};

describe('launcher options', () => {
  it('are those of all launchers, each saying whose it is', () => {
    const all = allLauncherOptions(launchers);
    assert.deepEqual(Object.keys(all), ['time', 'partition', 'nodeLabel', 'wait']);
    assert.equal(all['time']?.description, 'longest time (--on batch, cloud)');
    assert.equal(all['wait']?.description, 'wait (--on cloud)');
  });

  it('may be shared only as one definition', () => {
    const other = { ...launchers, odd: define('odd', { time: { ...time } }) };
    assert.throws(() => allLauncherOptions(other), /batch, cloud and odd define --time apart/);
  });

  it('reach their launcher, absent ones included, and nothing else does', () => {
    const values = { runsDir: 'runs', time: '1h', nodeLabel: [], wait: false };
    assert.deepEqual(launcherOptionsOf(launchers, 'batch', values), { time: '1h', partition: undefined });
    const own = launcherOptionsOf(launchers, 'cloud', { time: '1h' });
    assert.deepEqual(own, { time: '1h', nodeLabel: [], wait: false });
    launchers.cloud.create(own);
    assert.deepEqual(made, [own]);
  });

  it('of another launcher are refused by both names', () => {
    assert.throws(
      () => launcherOptionsOf(launchers, 'batch', { nodeLabel: ['gpu'] }),
      /\[USAGE\] --node-label is an option of --on cloud, and this is --on batch/,
    );
  });
});

describe('launcherOf', () => {
  it('names the launchers that there are', () => {
    assert.throws(() => launcherOf('toString'), /\[USAGE\] no launcher "toString"; there is local/);
  });
});
