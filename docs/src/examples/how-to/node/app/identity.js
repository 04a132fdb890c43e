// This pod's certificate, as Certmint keeps it in the pod.

const fs = require('node:fs');
const path = require('node:path');

const DIRECTORY = '/var/run/secrets/certmint.dev';

// Which version of the files is the newest. tls.crt is a link into a directory that is replaced as a whole: where it leads
// to is the version, and what is read there belongs together.
const version = () => path.dirname(fs.realpathSync(`${DIRECTORY}/tls.crt`));

const read = (version) => ({
  cert: fs.readFileSync(`${version}/tls.crt`),
  key: fs.readFileSync(`${version}/tls.key`),
  // With a ca of its own, Node does not trust the certificate authorities that it brings along.
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
      // Replaced again at this very moment: the next look finds it.
      console.log(`keeping the certificate read before: ${error.message}`);
    }
  }, 1000).unref();
};
