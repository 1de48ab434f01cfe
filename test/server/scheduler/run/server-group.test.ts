import assert from 'node:assert/strict';
import type { Member } from '../../../../server/scheduler/members.ts';
import { ServerGroup, type ServerGroupOptions } from '../../../../server/scheduler/run/server-group.ts';
import type { ModelDescription } from '../../../../shared/layout/model-description.ts';
import { engineConfig } from '../../../fixtures/config.ts';

const server = { role: 'server', rank: 0 } as unknown as Member;
const [sender, other] = [0, 1].map((rank) => ({ role: 'worker', rank }) as unknown as Member) as [Member, Member];
const MODEL = {
  parameters: [{ name: 'dense_1/kernel', shape: [4, 2], layerKind: 'Dense', prunable: true }],
  states: [],
} as unknown as ModelDescription;

describe('ServerGroup', () => {
  it('is lost with a server that has a shard, and with the sender of initial values until they are safe', async () => {
    const over = new AbortController();
    let asked: (member: Member) => void = () => undefined;
    const sent = new Promise<Member>((resolve) => (asked = resolve));
    const options = {
      config: engineConfig(),
      generation: 1,
      restored: null,
      signal: over.signal,
      members: { of: () => [], send: (member: Member) => asked(member) },
      progress: { setModel: () => undefined },
    } as unknown as ServerGroupOptions;
    const group = new ServerGroup(options);
    assert.equal(group.isLostWith(server), false, 'it has nothing yet');
    group.connect(MODEL);
    assert.equal(group.isLostWith(server), true);
    const configured = group.configure(MODEL, () => [sender, other]);
    assert.equal(await sent, sender);
    assert.deepEqual([group.isLostWith(sender), group.isLostWith(other)], [true, false]);
    group.ready(0);
    await configured;
    assert.equal(group.isLostWith(sender), true, 'checkpoint 0 is not there');
    group.initialized();
    assert.equal(group.isLostWith(sender), false);
    over.abort();
    group.close();
  });
});
