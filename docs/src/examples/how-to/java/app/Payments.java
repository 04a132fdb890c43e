import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSession;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;
import javax.net.ssl.X509TrustManager;

/**
 * A payment service and its caller.
 *
 * <pre>
 * java Payments.java serve
 * java Payments.java call https://HOST [SECONDS]   once, or repeatedly every SECONDS seconds
 * </pre>
 */
public class Payments {
    public static void main(String... arguments) throws Exception {
        Identities identities = new Identities();
        identities.current();
        if (arguments.length == 1 && arguments[0].equals("serve")) {
            serve(identities);
        } else if (arguments.length >= 2 && arguments[0].equals("call")) {
            Caller caller = new Caller(identities, URI.create(arguments[1]));
            boolean paid = caller.call();
            while (arguments.length > 2) {
                Thread.sleep((long) (Double.parseDouble(arguments[2]) * 1000));
                caller.call();
            }
            System.exit(paid ? 0 : 1);
        } else {
            System.err.println("java Payments.java serve | call URL [SECONDS]");
            System.exit(2);
        }
    }

    // ANCHOR: server
    /** Accepts the callers in ALLOWED_CALLERS, and no others. */
    static void serve(Identities identities) throws Exception {
        List<String> allowed = List.of(System.getenv("ALLOWED_CALLERS").split(","));
        SSLContext context = identities.context();
        // Without resumption every connection presents its certificate. A ticket is valid for at most seven days (RFC 8446),
        // so the JDK issues none if the session timeout is longer.
        context.getServerSessionContext().setSessionTimeout((int) Duration.ofDays(8).toSeconds());
        HttpsServer server = HttpsServer.create(new InetSocketAddress(8443), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(context) {
            @Override
            public void configure(HttpsParameters connection) {
                var parameters = context.getDefaultSSLParameters();
                parameters.setProtocols(new String[] {"TLSv1.3"});
                parameters.setNeedClientAuth(true);
                connection.setSSLParameters(parameters);
            }
        });
        // By default one thread does everything, including handshakes, so a slow caller would block all others.
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> answer((HttpsExchange) exchange, identities, allowed));
        server.start();
        // Finishes open requests.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> server.stop(3)));
    }

    static void answer(HttpsExchange exchange, Identities identities, List<String> allowed) throws IOException {
        SSLSession session = exchange.getSSLSession();
        X509Certificate certificate = (X509Certificate) session.getPeerCertificates()[0];
        String caller = spiffeId(certificate);
        int status = allowed.contains(caller) ? 200 : 403;
        String sentence = status == 200
            ? "paid, " + caller + " with certificate " + certificate.getSerialNumber().toString(16)
            : caller + " may not pay";
        System.out.println(status + " " + sentence);
        if (session.getCreationTime() < identities.current().since()) {
            // The certificate was renewed after the handshake, so this is the connection's last response.
            exchange.getResponseHeaders().set("Connection", "close");
        }
        byte[] body = (sentence + "\n").getBytes();
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    /** Returns the only URI in the certificate. */
    static String spiffeId(X509Certificate certificate) {
        try {
            final Integer uri = 6;
            var ids = certificate.getSubjectAlternativeNames().stream().filter(name -> uri.equals(name.get(0))).toList();
            return ids.size() == 1 ? (String) ids.get(0).get(1) : null;
        } catch (CertificateException malformed) {
            return null;
        }
    }
    // ANCHOR_END: server
}

// ANCHOR: client
/** Calls a server with the newest certificate. */
class Caller {
    private final Identities identities;
    private final URI url;
    private Identity identity;
    private HttpClient client;

    Caller(Identities identities, URI url) {
        this.identities = identities;
        this.url = url;
    }

    /** Prints the response, and returns whether its status is 200. */
    boolean call() throws InterruptedException {
        try {
            HttpRequest request = HttpRequest.newBuilder(url).timeout(Duration.ofSeconds(10)).build();
            HttpResponse<String> answer = newest().send(request, HttpResponse.BodyHandlers.ofString());
            X509Certificate server = (X509Certificate) answer.sslSession().get().getPeerCertificates()[0];
            System.out.println(answer.statusCode() + " " + answer.body().strip()
                + ", by server " + server.getSerialNumber().toString(16));
            return answer.statusCode() == 200;
        } catch (IOException | GeneralSecurityException error) {
            System.out.println("failed: " + error);
            return false;
        }
    }

    /** A client keeps its connections with the old certificate, so a renewed certificate needs a new client. */
    private HttpClient newest() throws GeneralSecurityException, IOException {
        if (identity != identities.current()) {
            identity = identities.current();
            // By default the context also speaks TLS 1.2.
            SSLParameters parameters = new SSLParameters();
            parameters.setProtocols(new String[] {"TLSv1.3"});
            client = HttpClient.newBuilder().sslContext(identities.context()).sslParameters(parameters).build();
        }
        return client;
    }
}
// ANCHOR_END: client

// ANCHOR: identity
/** One version of this pod's certificate and its trusted roots. */
record Identity(Path version, long since, PrivateKey key, X509Certificate[] chain, X509TrustManager trust) {
    static Identity read(Path version) throws IOException, GeneralSecurityException {
        X509Certificate[] chain = certificates(version.resolve("tls.crt"));
        // tls.key is PKCS#8, for every key algorithm.
        String pem = Files.readString(version.resolve("tls.key")).replaceAll("-----[A-Z ]+-----", "");
        PrivateKey key = KeyFactory.getInstance(chain[0].getPublicKey().getAlgorithm())
            .generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(pem)));
        // A separate truststore, so that the JDK's public certificate authorities are not trusted.
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        for (X509Certificate root : certificates(version.resolve("ca.crt"))) {
            roots.setCertificateEntry(root.getSerialNumber().toString(16), root);
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(roots);
        X509TrustManager trust = (X509TrustManager) factory.getTrustManagers()[0];
        return new Identity(version, System.currentTimeMillis(), key, chain, trust);
    }

    private static X509Certificate[] certificates(Path file) throws IOException, CertificateException {
        try (var pem = Files.newInputStream(file)) {
            return CertificateFactory.getInstance("X.509").generateCertificates(pem).toArray(X509Certificate[]::new);
        }
    }
}

/** Reads Certmint's files in the pod, and reads them again after a renewal. */
class Identities extends X509ExtendedKeyManager implements X509TrustManager {
    private static final Path CERTIFICATE = Path.of("/var/run/secrets/certmint.dev/tls.crt");
    private volatile Identity current;
    private volatile Identity former;

    /** Returns the newest identity, for the next connection. */
    synchronized Identity current() {
        try {
            // tls.crt is a symbolic link into a directory that is replaced as a whole. The link's target is the version.
            // All files in that directory belong to the same version.
            Path version = CERTIFICATE.toRealPath().getParent();
            if (current == null || !current.version().equals(version)) {
                if (current != null) {
                    System.out.println("reading the renewed certificate");
                }
                Identity renewed = Identity.read(version);
                former = current;
                current = renewed;
            }
        } catch (IOException | GeneralSecurityException error) {
            if (current == null) {
                throw new IllegalStateException("no certificate", error);
            }
            // The files were replaced during the read. The next connection reads them.
            System.out.println("keeping the certificate read before: " + error);
        }
        return current;
    }

    /** Returns a context that uses the newest certificate and roots at each handshake. */
    SSLContext context() throws GeneralSecurityException {
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(new KeyManager[] {this}, new TrustManager[] {this}, null);
        return context;
    }

    /** A handshake chooses an alias, then gets its key and chain, which must be of the same version. */
    private Identity of(String alias) {
        Identity chosen = current;
        return chosen.version().toString().equals(alias) ? chosen : former;
    }

    private String alias(String... keyTypes) {
        Identity chosen = current();
        boolean fits = List.of(keyTypes).contains(chosen.chain()[0].getPublicKey().getAlgorithm());
        return fits ? chosen.version().toString() : null;
    }

    @Override
    public String chooseEngineServerAlias(String keyType, Principal[] issuers, SSLEngine engine) {
        return alias(keyType);
    }

    @Override
    public String chooseEngineClientAlias(String[] keyTypes, Principal[] issuers, SSLEngine engine) {
        return alias(keyTypes);
    }

    @Override
    public PrivateKey getPrivateKey(String alias) {
        return of(alias).key();
    }

    @Override
    public X509Certificate[] getCertificateChain(String alias) {
        return of(alias).chain();
    }

    @Override
    public void checkClientTrusted(X509Certificate[] chain, String authType) throws CertificateException {
        current().trust().checkClientTrusted(chain, authType);
    }

    @Override
    public void checkServerTrusted(X509Certificate[] chain, String authType) throws CertificateException {
        current().trust().checkServerTrusted(chain, authType);
    }

    @Override
    public X509Certificate[] getAcceptedIssuers() {
        return current().trust().getAcceptedIssuers();
    }

    // ANCHOR_END: identity

    // Methods for sockets, which neither HttpsServer nor HttpClient uses.

    @Override
    public String[] getClientAliases(String keyType, Principal[] issuers) {
        return null;
    }

    @Override
    public String chooseClientAlias(String[] keyTypes, Principal[] issuers, Socket socket) {
        return null;
    }

    @Override
    public String[] getServerAliases(String keyType, Principal[] issuers) {
        return null;
    }

    @Override
    public String chooseServerAlias(String keyType, Principal[] issuers, Socket socket) {
        return null;
    }
}
