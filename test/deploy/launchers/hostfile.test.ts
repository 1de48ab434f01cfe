import assert from 'node:assert/strict';
import { listenArguments, parseHostfile, placeRoles } from '../../../deploy/launchers/hostfile.ts';

const parse = (text: string) => parseHostfile(text, 'hosts');

describe('parseHostfile', () => {
  it('reads hosts, users, ports, slots and options, and leaves comments out', () => {
    const hosts = parse(
      '# nodes\nnode1 slots=2 # fast\n\nme@node2:2222 slots=4 address=10.0.0.2\n[fe80::1]:22 node=/opt/node whittle=/w ssh.User=you\n',
    );
    assert.deepEqual(
      hosts.map(({ target, port, slots, address }) => [target, port, slots, address]),
      [
        ['node1', null, 2, 'node1'],
        ['me@node2', 2222, 4, '10.0.0.2'],
        ['fe80::1', 22, Infinity, 'fe80::1'],
      ],
    );
    assert.deepEqual(hosts[2]?.options, ['User=you']);
    assert.deepEqual([hosts[2]?.node, hosts[2]?.whittle], ['/opt/node', '/w']);
  });

  it('refuses by file and line what it does not know', () => {
    for (const [text, message] of [
      ['node1\nnode2 slot=4\n', /\[USAGE\] hosts:2: "slot=4" is unknown; there is slots=N/],
      ['node1 slots=many\n', /hosts:1: slots=many must be a whole number/],
      ['node1:70000\n', /hosts:1: port=70000 must be a whole number from 1 to 65535/],
      ['-oProxyCommand=x\n', /hosts:1: "-oProxyCommand=x" is no host/],
      ['node1\nnode1\n', /hosts:2: host node1 is named twice; .*slots=4/],
      ['# nobody\n', /hosts names no host/],
    ] as const)
      assert.throws(() => parse(text), message);
  });
});

describe('placeRoles', () => {
  it('spreads servers first, then workers, over what slots are left', () => {
    const place = placeRoles(parse('a slots=1\nb slots=3\nc slots=2\n'), { servers: 2, workers: 4 });
    const names = (role: 'server' | 'worker', count: number): string =>
      Array.from({ length: count }, (_, rank) => place(role, rank).target).join('');
    assert.deepEqual([names('server', 2), names('worker', 4)], ['ab', 'cbcb']);
    assert.equal(place('scheduler', 0).target, 'a');
    assert.equal(place('scheduler', 1).target, 'b');
  });

  it('says how many slots are missing', () => {
    assert.throws(
      () => placeRoles(parse('a slots=1\nb slots=2\n'), { servers: 2, workers: 2 }),
      /\[USAGE\] the hostfile has 3 slots for 2 servers and 2 workers/,
    );
  });
});

describe('listenArguments', () => {
  it('stays on loopback where all hosts are there, and advertises a host elsewhere', () => {
    const here = parse('127.0.0.1\n127.0.0.2\n');
    assert.deepEqual(here.map((host) => listenArguments(host, here)).at(1), ['--host', '127.0.0.2']);
    const there = parse('node1\nnode2 address=10.0.0.2\n');
    assert.deepEqual(
      there.map((host) => listenArguments(host, there).join(' ')),
      ['--host 0.0.0.0 --advertise node1', '--host 0.0.0.0 --advertise 10.0.0.2'],
    );
    const mixed = parse('localhost\nnode2\n');
    assert.throws(() => mixed.map((host) => listenArguments(host, mixed)), /localhost .* address=HOST/);
  });
});
