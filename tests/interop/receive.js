// nodemailer's smtp-server as an upstream: `node receive.js PORT FOLDER` writes each content into FOLDER/<number>.eml.
"use strict";

const fs = require("fs");
const path = require("path");
const { SMTPServer } = require("smtp-server");

const [port, folder] = process.argv.slice(2);
let count = 0;

new SMTPServer({
  disabledCommands: ["AUTH", "STARTTLS"],
  disableReverseLookup: true,
  onData(stream, _session, done) {
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => {
      const name = path.join(folder, `${String(++count).padStart(4, "0")}.eml`);
      fs.writeFileSync(`${name}.part`, Buffer.concat(parts));
      fs.renameSync(`${name}.part`, name);
      done();
    });
  },
}).listen(Number(port), "127.0.0.1");
