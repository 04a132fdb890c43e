// A payment service that accepts the callers in ALLOWED_CALLERS, and no others.

const https = require('node:https');
const { constants } = require('node:crypto');
const { follow } = require('./identity');

const allowedCallers = process.env.ALLOWED_CALLERS.split(',');

const spiffeId = (certificate) => {
  const ids = (certificate.subjectaltname ?? '').split(', ').filter((name) => name.startsWith('URI:'));
  return ids.length === 1 ? ids[0].slice('URI:'.length) : undefined;
};

const server = https.createServer({
  // By default Node's servers request no certificate.
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

server.on('tlsClientError', (error) => console.log('rejected', error.code));

// Open connections keep their certificate. Without tickets there is no resumption, so every connection presents its
// certificate.
follow((settings) => server.setSecureContext({ ...settings, secureOptions: constants.SSL_OP_NO_TICKET }));
server.listen(8443);

// Finishes open requests.
process.on('SIGTERM', () => server.close());
