// Asks the health service of the role in this container; exit code 0 says that it serves. The role was started with
// `--health-port 7001`, or WHITTLE_HEALTH_PORT names another one. A container without a health port is not judged.
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { service } from 'grpc-health-check';
import { connect } from 'node:net';

const port = Number(process.env['WHITTLE_HEALTH_PORT'] ?? 7001);

function isOpen() {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

if (await isOpen()) {
  const { Health } = loadPackageDefinition({ Health: service });
  const client = new Health(`127.0.0.1:${port}`, credentials.createInsecure());
  client.check({ service: '' }, { deadline: Date.now() + 4000 }, (error, reply) => {
    process.exitCode = error === null && reply.status === 'SERVING' ? 0 : 1;
    client.close();
  });
}
