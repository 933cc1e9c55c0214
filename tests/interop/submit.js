// Submits one message by nodemailer: reads {host, port, raw (base64), envelope} as JSON from standard input, prints the
// relay's reply to the content, ends with 1 and the reply when it was refused.
"use strict";

const nodemailer = require("nodemailer");
const job = JSON.parse(require("fs").readFileSync(0, "utf8"));

const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  name: "client.example.org",
  ignoreTLS: true,
  connectionTimeout: 30000,
  greetingTimeout: 30000,
  socketTimeout: 60000,
});

transport
  .sendMail({ envelope: job.envelope, raw: Buffer.from(job.raw, "base64"), dsn: job.envelope.dsn })
  .then((info) => console.log(info.response))
  .catch((error) => {
    console.error(error.response || error.message);
    process.exit(1);
  });
