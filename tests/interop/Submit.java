import jakarta.mail.Message;
import jakarta.mail.MessagingException;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Submits messages by Jakarta Mail, all over one connection.
 *
 * <p>{@code java Submit KEY=VALUE... FILE...}; keys: port, from, to (repeated), tls (none, starttls, implicit), ca (a
 * certificate to trust), user, password, mechanism. Each file is one content. Prints the last reply for each message
 * that was taken; ends with 1 and the exceptions as their user sees them.
 */
public final class Submit {
    /** By name: it checks that a certificate is the server's by names only. */
    private static final String HOST = "localhost";

    public static void main(String[] words) throws Exception {
        Map<String, String> keys = new HashMap<>();
        List<InternetAddress> recipients = new ArrayList<>();
        List<Path> files = new ArrayList<>();
        for (String word : words) {
            int at = word.indexOf('=');
            if (at < 0) {
                files.add(Path.of(word));
            } else if (word.startsWith("to=")) {
                recipients.add(new InternetAddress(word.substring(3), false));
            } else {
                keys.put(word.substring(0, at), word.substring(at + 1));
            }
        }
        if (files.isEmpty()) {
            System.err.println("usage: Submit KEY=VALUE... FILE...");
            System.exit(2);
        }
        try {
            submit(keys, recipients.toArray(new InternetAddress[0]), files);
        } catch (MessagingException error) {
            for (Exception one = error; one != null;
                    one = one instanceof MessagingException ? ((MessagingException) one).getNextException() : null) {
                System.err.println(one);
            }
            System.exit(1);
        }
    }

    private static void submit(Map<String, String> keys, InternetAddress[] recipients, List<Path> files)
            throws Exception {
        boolean implicit = "implicit".equals(keys.get("tls"));
        String scheme = implicit ? "smtps" : "smtp";
        String prefix = "mail." + scheme + ".";
        Properties properties = new Properties();
        properties.put(prefix + "localhost", "client.example.org");
        properties.put(prefix + "from", keys.get("from"));
        properties.put(prefix + "allow8bitmime", "true");
        properties.put(prefix + "timeout", "60000");
        properties.put(prefix + "connectiontimeout", "30000");
        properties.put(prefix + "starttls.required", String.valueOf("starttls".equals(keys.get("tls"))));
        properties.put(prefix + "starttls.enable", String.valueOf("starttls".equals(keys.get("tls"))));
        properties.put(prefix + "ssl.checkserveridentity", "true");
        if (keys.containsKey("ca")) {
            properties.put(prefix + "ssl.socketFactory", trusting(Path.of(keys.get("ca"))).getSocketFactory());
        }
        if (keys.containsKey("user")) {
            properties.put(prefix + "auth", "true");
            properties.put(prefix + "auth.mechanisms", keys.get("mechanism"));
        }
        Session session = Session.getInstance(properties);
        try (Transport transport = session.getTransport(scheme)) {
            transport.connect(HOST, Integer.parseInt(keys.get("port")), keys.get("user"), keys.get("password"));
            for (Path file : files) {
                Message message = new MimeMessage(session, new ByteArrayInputStream(Files.readAllBytes(file)));
                transport.sendMessage(message, recipients);
                System.out.print(((com.sun.mail.smtp.SMTPTransport) transport).getLastServerResponse());
            }
        }
    }

    private static SSLContext trusting(Path certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = Files.newInputStream(certificate)) {
            store.setCertificateEntry("relay", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
