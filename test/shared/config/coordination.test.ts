import assert from 'node:assert/strict';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const coordinationOf = (text: string): unknown =>
  parseRunFile(`${VALID}coordination: ${text}\n`, '/runs/a/run.yaml').coordination;
const refuses = (text: string, ...says: string[]): void =>
  assertSays(
    runFileErrorOf(() => coordinationOf(text)),
    says,
  );

describe('coordination in the run file', () => {
  it('is embedded by default', () => {
    assert.equal(parseRunFile(VALID, 'run.yaml').coordination, 'embedded');
    assert.equal(coordinationOf('embedded'), 'embedded');
  });

  it('takes etcd with its defaults, paths from the folder of the file', () => {
    assert.deepEqual(coordinationOf('{ etcd: { endpoints: [http://a:2379] } }'), {
      etcd: { endpoints: ['http://a:2379'], prefix: 'whittle', leaseSeconds: 10, deadlineSeconds: 60 },
    });
    assert.deepEqual(
      coordinationOf(
        '{ etcd: { endpoints: ["https://a:1", "https://[::1]:2"], prefix: x/y, username: me, password: p, certificates: { ca: ca.pem, certificate: /c.pem, key: ../k.pem }, leaseSeconds: 5, deadlineSeconds: 9 } }',
      ),
      {
        etcd: {
          endpoints: ['https://a:1', 'https://[::1]:2'],
          prefix: 'x/y',
          username: 'me',
          password: 'p',
          certificates: { ca: '/runs/a/ca.pem', certificate: '/c.pem', key: '/runs/k.pem' },
          leaseSeconds: 5,
          deadlineSeconds: 9,
        },
      },
    );
  });

  it('says what is wrong, where, and the cure', () => {
    refuses('etdc', 'run.yaml:9:15', 'must be embedded, or {etcd: {endpoints: [http://HOST:2379]}}', 'is "etdc"');
    refuses('{ edcd: { endpoints: [http://a:1] } }', 'unknown key "edcd" in coordination', 'did you mean etcd?');
    refuses('{ etcd: { endpoint: [http://a:1] } }', 'unknown key "endpoint"', 'did you mean endpoints?');
    refuses('{ etcd: {} }', 'coordination.etcd.endpoints is missing; it must be a list of addresses');
    refuses('{ etcd: { endpoints: [] } }', 'coordination.etcd.endpoints must be a list of addresses');
    refuses(
      '{ etcd: { endpoints: [a:2379] } }',
      'coordination.etcd.endpoints.0 must be an address of etcd',
      'is "a:2379"',
    );
    refuses('{ etcd: { endpoints: [http://a] } }', 'such as http://etcd-0:2379');
    refuses('{ etcd: { endpoints: [http://a:1, https://b:1] } }', 'endpoints mixes http:// and https://');
    refuses('{ etcd: { endpoints: [http://a:1], prefix: /x } }', 'prefix must be letters', 'is "/x"');
    refuses(
      '{ etcd: { endpoints: [http://a:1], leaseSeconds: 1 } }',
      'leaseSeconds must be a whole number from 3 to 300',
    );
    refuses('{ etcd: { endpoints: [http://a:1], password: p } }', 'password needs coordination.etcd.username');
    refuses(
      '{ etcd: { endpoints: [http://a:1], certificates: { ca: x } } }',
      'certificates needs endpoints with https://',
    );
    refuses(
      '{ etcd: { endpoints: [https://a:1], certificates: { ca: x, key: y } } }',
      'certificates has only one of certificate and key',
    );
  });
});
