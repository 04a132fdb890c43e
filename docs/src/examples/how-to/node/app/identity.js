// This pod's certificate, from Certmint's files in the pod.

const fs = require('node:fs');
const path = require('node:path');

const DIRECTORY = '/var/run/secrets/certmint.dev';

// Newest version of the files. tls.crt is a symbolic link into a directory that is replaced as a whole. The link's target is
// the version. All files in that directory belong to the same version.
const version = () => path.dirname(fs.realpathSync(`${DIRECTORY}/tls.crt`));

const read = (version) => ({
  cert: fs.readFileSync(`${version}/tls.crt`),
  key: fs.readFileSync(`${version}/tls.key`),
  // With the option ca, Node does not trust its built-in certificate authorities.
  ca: fs.readFileSync(`${version}/ca.crt`),
  minVersion: 'TLSv1.3',
});

// Calls use(settings) now, and again after each renewal.
exports.follow = (use) => {
  let current = version();
  use(read(current));
  setInterval(() => {
    try {
      const newest = version();
      if (newest === current) return;
      console.log('reading the renewed certificate');
      use(read(newest));
      current = newest;
    } catch (error) {
      // The files were replaced during the read. The next check reads them.
      console.log(`keeping the certificate read before: ${error.message}`);
    }
  }, 1000).unref();
};
