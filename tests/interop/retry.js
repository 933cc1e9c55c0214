// An application that sends one message by nodemailer and tries again as long as that may help: reads {host, port,
// raw (base64), envelope, attempts, pause and timeout (milliseconds)} as JSON from standard input, prints a line of JSON
// for each attempt. Ends with 0 when the message was taken and with 1 when it was given up.
"use strict";

const nodemailer = require("nodemailer");
const job = JSON.parse(require("fs").readFileSync(0, "utf8"));

const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  name: "client.example.org",
  socketTimeout: job.timeout,
});

async function send() {
  for (let attempt = 1; attempt <= job.attempts; attempt++) {
    try {
      const info = await transport.sendMail({ envelope: job.envelope, raw: Buffer.from(job.raw, "base64") });
      console.log(JSON.stringify({ attempt, taken: info.response }));
      return true;
    } catch (error) {
      console.log(JSON.stringify({ attempt, error: error.code, reply: error.response || null }));
      // 5xx is meant for good; 4xx and whatever happens to the connection are not.
      if (error.responseCode >= 500) return false;
    }
    await new Promise((later) => setTimeout(later, job.pause));
  }
  return false;
}

send().then((taken) => process.exit(taken ? 0 : 1));
