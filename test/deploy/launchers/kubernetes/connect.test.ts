import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectCluster } from '../../../../deploy/launchers/kubernetes/api.ts';
import { WhittleError } from '../../../../shared/errors.ts';

/** What a user of kubectl may have got wrong before anything is asked of a cluster. */
describe('connectCluster', function () {
  // Loading the client takes a while on a busy machine.
  this.timeout(300_000);
  const before = { HOME: process.env['HOME'], KUBECONFIG: process.env['KUBECONFIG'] };
  let home = '';
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'whittle-home-'));
    process.env['HOME'] = home;
    delete process.env['KUBECONFIG'];
  });
  afterEach(() => {
    rmSync(home, { recursive: true });
    for (const [name, value] of Object.entries(before))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  });

  const given = (text: string): void => {
    const path = join(home, 'kubeconfig');
    writeFileSync(path, text);
    process.env['KUBECONFIG'] = path;
  };
  const kubeconfig = (cluster: Record<string, unknown>): string =>
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'c', cluster }],
      users: [{ name: 'u', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    });
  const refused = (message: RegExp, context: string | null = null): Promise<void> =>
    assert.rejects(connectCluster({ context, namespace: null }), message);

  it('refuses a kubeconfig that is missing, or no such thing', async () => {
    await refused(/\[USAGE\] there is no kubeconfig: neither .*; fetch that of the cluster/);
    await refused(/\[USAGE\] there is no kubeconfig/, 'x');
    process.env['KUBECONFIG'] = join(home, 'gone');
    await refused(/\[USAGE\] the kubeconfig cannot be read: ENOENT.*; check \$KUBECONFIG/);
    given('a: [b');
    await refused(/\[USAGE\] the kubeconfig cannot be read: .*; check \$KUBECONFIG/s);
  });

  it('refuses a context that is not there, and one without TLS', async () => {
    given(kubeconfig({ server: 'https://127.0.0.1:9' }));
    await refused(/\[USAGE\] the kubeconfig has no context "y"; there is x/, 'y');
    given(kubeconfig({ server: 'http://127.0.0.1:9' }));
    await refused(/\[USAGE\] context "x" reaches http:\/\/127\.0\.0\.1:9 without TLS; give its cluster an https/);
    given(kubeconfig({ server: 'http://127.0.0.1:9', 'insecure-skip-tls-verify': true }));
    assert.equal((await connectCluster({ context: null, namespace: null })).context, 'x');
  });

  it('says that a cluster does not answer, without the stack of a cause', async () => {
    given(kubeconfig({ server: 'https://127.0.0.1:9' }));
    const api = await connectCluster({ context: null, namespace: null });
    await assert.rejects(api.pods({}), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.match(
        error.message,
        /\[DEADLINE\] https:\/\/127\.0\.0\.1:9 cannot be reached to list pods: .*ECONNREFUSED/,
      );
      assert.equal(error.cause, undefined);
      return true;
    });
  });
});
