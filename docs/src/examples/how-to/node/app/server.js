// A payment service that answers the callers named in ALLOWED_CALLERS, and nobody else.

const https = require('node:https');
const { constants } = require('node:crypto');
const { follow } = require('./identity');

const allowedCallers = process.env.ALLOWED_CALLERS.split(',');

const spiffeId = (certificate) => {
  const ids = (certificate.subjectaltname ?? '').split(', ').filter((name) => name.startsWith('URI:'));
  return ids.length === 1 ? ids[0].slice('URI:'.length) : undefined;
};

const server = https.createServer({
  // Node's servers ask for no certificate unless they are told to.
  requestCert: true,
  rejectUnauthorized: true,
});

server.on('request', (request, response) => {
  const certificate = request.socket.getPeerCertificate();
  const caller = spiffeId(certificate);
  const allowed = allowedCallers.includes(caller);
  const sentence = allowed
    ? `paid, ${caller} with certificate ${certificate.serialNumber.toLowerCase()}`
    : `${caller} may not pay`;
  response.writeHead(allowed ? 200 : 403, { 'Content-Type': 'text/plain' }).end(`${sentence}\n`);
  console.log(response.statusCode, sentence);
});

server.on('tlsClientError', (error) => console.log('refused', error.code));

// Connections that are open go on with what they began with. Without tickets there is no resumption: every connection
// shows its certificate.
follow((settings) => server.setSecureContext({ ...settings, secureOptions: constants.SSL_OP_NO_TICKET }));
server.listen(8443);

// Ends what it has begun.
process.on('SIGTERM', () => server.close());
