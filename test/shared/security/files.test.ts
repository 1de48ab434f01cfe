import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { readCertificates } from '../../../shared/security/certificate-folder.ts';
import { isLoopback } from '../../../shared/security/loopback.ts';
import { makeCertificates, writeCertificates } from '../../../shared/security/make-certificates.ts';
import { loadRunSecurity } from '../../../shared/security/run-security.ts';
import { ensureToken, newToken, readToken, sameToken } from '../../../shared/security/token.ts';

function fails(message: RegExp, code = 'SECURITY'): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof WhittleError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);

describe('secrets on disk', () => {
  let folder: string;
  beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), 'whittle-security-'))));
  afterEach(() => rm(folder, { recursive: true, force: true }));

  describe('token', () => {
    it('is made once, for its owner alone, and the same for all who ask at once', async () => {
      const path = join(folder, 'token');
      const tokens = await Promise.all(Array.from({ length: 8 }, () => ensureToken(path)));
      assert.equal(new Set(tokens).size, 1);
      assert.equal(tokens[0]?.length, 43);
      assert.equal(await modeOf(path), '600');
      assert.equal(await readToken(path), tokens[0]);
    });

    it('is refused where everybody may read it, unless insisted', async () => {
      const path = join(folder, 'token');
      const token = await ensureToken(path);
      await chmod(path, 0o644);
      await assert.rejects(readToken(path), fails(/may be read by everybody .*chmod 600/));
      assert.equal(await readToken(path, { insecure: true }), token);
    });

    it('is refused when it is none', async () => {
      const path = join(folder, 'token');
      await writeFile(path, 'hunter2\n', { mode: 0o600 });
      await assert.rejects(readToken(path), fails(/holds no run token/));
    });

    it('is compared as a whole', () => {
      const token = newToken();
      assert.ok(sameToken(token, token));
      for (const other of ['', token.slice(1), `${token}x`, newToken()]) assert.ok(!sameToken(other, token));
    });
  });

  describe('certificates', () => {
    it('cover the hosts, as server and client, until they expire', async () => {
      const made = await makeCertificates({ hosts: ['Node1', '10.0.0.7', '*.cluster.local', 'fd00::1'], days: 7 });
      const leaf = new X509Certificate(made.certificate);
      const issuer = new X509Certificate(made.authority);
      for (const host of ['localhost', 'node1', 'a.cluster.local']) assert.ok(leaf.checkHost(host), host);
      for (const address of ['127.0.0.1', '::1', '10.0.0.7', 'fd00::1']) assert.ok(leaf.checkIP(address), address);
      assert.equal(leaf.checkHost('node2'), undefined);
      assert.ok(issuer.ca && !leaf.ca && leaf.checkIssued(issuer) && leaf.verify(issuer.publicKey));
      // Server and client authentication, RFC 5280 section 4.2.1.12.
      assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
      const days = (Date.parse(leaf.validTo) - Date.now()) / 86_400_000;
      assert.ok(days > 6.9 && days <= 7, `${days} days`);
      assert.ok(Date.parse(leaf.validFrom) < Date.now());
    });

    it('refuse a host that is none', async () => {
      for (const host of ['node1:7000', 'a b', '', 'http://x'])
        await assert.rejects(makeCertificates({ hosts: [host], days: 1 }), fails(/is no name or address/, 'USAGE'));
    });

    it('are written for their owner alone, read back whole, and not overwritten', async () => {
      const path = join(folder, 'deep', 'certs');
      const made = await makeCertificates({ hosts: [], days: 1 });
      await writeCertificates(path, made);
      assert.equal(await modeOf(path), '700');
      assert.equal(await modeOf(join(path, 'key.pem')), '600');
      assert.equal(await modeOf(join(path, 'token')), '600');
      const { authority, certificate, key, token } = await readCertificates(path);
      assert.deepEqual([authority, certificate, key], [made.authority, made.certificate, made.key]);
      await assert.rejects(writeCertificates(path, await makeCertificates({ hosts: [], days: 1 })), fails(/exists/));
      assert.deepEqual(await readCertificates(path), { authority, certificate, key, token });
    });

    it('are checked before use, each fault by name', async () => {
      const path = join(folder, 'certs');
      await writeCertificates(path, await makeCertificates({ hosts: [], days: 1 }));
      const other = await makeCertificates({ hosts: [], days: 1 });
      const later = { now: new Date(Date.now() + 2 * 86_400_000) };
      await assert.rejects(readCertificates(path, later), fails(/expired on .*whittle certs/));
      const early = { now: new Date(Date.now() - 2 * 86_400_000) };
      await assert.rejects(readCertificates(path, early), fails(/is valid from .*clock/));

      const key = await readFile(join(path, 'key.pem'), 'utf8');
      await writeFile(join(path, 'key.pem'), other.key);
      await assert.rejects(readCertificates(path), fails(/key\.pem is not the key of/));
      await writeFile(join(path, 'key.pem'), key);
      await writeFile(join(path, 'ca.pem'), other.authority);
      await assert.rejects(readCertificates(path), fails(/cert\.pem was not issued by/));
      await writeFile(join(path, 'ca.pem'), 'nonsense');
      await assert.rejects(readCertificates(path), fails(/ca\.pem is not PEM/));
      await rm(join(path, 'ca.pem'));
      await assert.rejects(
        readCertificates(path),
        fails(/ca\.pem cannot be read \(ENOENT\); it does not exist: `whittle certs` makes a folder/),
      );
      await chmod(join(path, 'key.pem'), 0o604);
      await assert.rejects(readCertificates(path), fails(/may be read by everybody/));
    });
  });

  it('of a run are those its run file names, else a token of its own', async () => {
    const certs = join(folder, 'certs');
    const made = await makeCertificates({ hosts: [], days: 1 });
    await writeCertificates(certs, made);
    await assert.rejects(loadRunSecurity(folder), fails(/token cannot be read/));
    const plain = await loadRunSecurity(folder, { make: true });
    assert.deepEqual(plain.credentials, { token: await readToken(join(folder, 'token')), certificates: null });
    assert.deepEqual((await loadRunSecurity(folder)).credentials, plain.credentials);

    const document = 'model: lenet-5\ndata: {source: mnist, batchSize: 1}\ntraining: {steps: 1, evaluateEvery: 0}\n';
    await writeFile(
      join(folder, 'run.yaml'),
      `${document}cluster: {backend: wasm}\nsecurity: { certificates: certs, insecure: true }\n`,
    );
    const named = await loadRunSecurity(folder);
    assert.equal(named.credentials.certificates?.certificate, made.certificate);
    assert.equal(named.credentials.token, await readToken(join(certs, 'token')));
    assert.equal(named.insecure, true);
    await assert.rejects(
      loadRunSecurity(folder, { certificates: join(folder, 'none') }),
      fails(/none\/ca\.pem cannot/),
    );
  });
});

describe('loopback', () => {
  for (const host of ['127.0.0.1', '127.8.9.1', '::1', '[::1]', '::ffff:127.0.0.1', 'localhost'])
    it(`is ${host}`, async () => assert.ok(await isLoopback(host)));
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '192.0.2.1', 'no-such-host.invalid'])
    it(`is not "${host}"`, async () => assert.ok(!(await isLoopback(host))));
});
