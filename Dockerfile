# Millrace in a container: gateway, edge and worker in one image, not root, state in /var/lib/millrace.
# docker build -t millrace . && docker run -p 1935:1935 -p 8080:8080 -p 8081:8081 -p 8189:8189 -p 8189:8189/udp -p 8890:8890/udp -v millrace:/var/lib/millrace millrace
# An edge: docker run -p 8080:8080 -e MILLRACE_CLUSTER__SECRET=… -e MILLRACE_EDGE__UPSTREAM=gateway:8080 millrace edge

FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS build
WORKDIR /src
# Dependencies first, exactly those of the lock file: they change less often than the source. Bytecode without the times of
# its sources is the same in each build, and needs no check at the start.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/millrace \
 && pip --python /opt/millrace install --no-cache-dir --no-compile --disable-pip-version-check --only-binary :all: \
    --require-hashes -r requirements.lock \
 && /opt/millrace/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/millrace/lib
COPY pyproject.toml README.md ./
COPY config ./config
COPY gateway ./gateway
COPY proxy ./proxy
RUN pip --python /opt/millrace install --no-cache-dir --no-compile --disable-pip-version-check --no-deps --no-build-isolation . \
 && /opt/millrace/bin/python -m compileall -q --invalidation-mode unchecked-hash \
    /opt/millrace/lib/python3*/site-packages/gateway /opt/millrace/lib/python3*/site-packages/proxy

FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
LABEL org.opencontainers.image.title="Millrace" \
      org.opencontainers.image.description="Live media gateway: signed pushes from encoders and browsers in; WebRTC, HTTP-FLV, RTMP, HLS, LL-HLS and DASH out." \
      org.opencontainers.image.licenses="MIT"
# Watermarks: fonts, fc-match, which finds the one that has a character, and fribidi for what runs right to left. Fonts for
# every script are a quarter of the image: --build-arg FONTS=fonts-dejavu-core. `millrace doctor` says what is missing.
ARG FONTS="fonts-dejavu-core fonts-noto-core fonts-noto-cjk fonts-noto-color-emoji"
# Layers keep whole seconds of a folder's time. With other times the cache of fc-match would be stale in each container.
RUN apt-get update \
 && apt-get install -y --no-install-recommends fontconfig libfribidi0 $FONTS \
 && rm -rf /var/lib/apt/lists/* \
 && find /usr/share/fonts -type d -exec touch --date=2000-01-01 {} + && fc-cache --really-force --system-only
RUN groupadd --gid 10001 millrace \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/millrace --shell /usr/sbin/nologin millrace \
 && install -d -o millrace -g millrace -m 0770 /var/lib/millrace
COPY --from=build /opt/millrace /opt/millrace
ENV PATH=/opt/millrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MILLRACE_PROFILE=container
USER 10001:10001
WORKDIR /var/lib/millrace
VOLUME /var/lib/millrace
# RTMP, RTMPS; playback HTTP, HTTPS; WebSocket push, over TLS; WebRTC of the first process, TCP and UDP; SRT and SRTLA;
# admin (publish it with care).
EXPOSE 1935 1938 8080 8443 8081 8444 8189 8189/udp 8890/udp 5000/udp 8000
# No curl in the image, and no proxy of the environment. The ports stand in the data folder once all are open. The program
# itself would need four times as long to read its settings.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, json, os, sys, tomllib; \
      given = os.environ.get; \
      file = given('MILLRACE_CONFIG'); \
      own = tomllib.loads(open(file, encoding='utf-8-sig').read()) if file else {}; \
      data = given('MILLRACE_DATA') or own.get('data', '/var/lib/millrace'); \
      host = given('MILLRACE_HTTP__HOST') or own.get('http', {}).get('host', '0.0.0.0'); \
      port = json.load(open(f'{data}/ports.json'))['http']; \
      asked = http.client.HTTPConnection({'::': '127.0.0.1'}.get(host, host), port, timeout=3); \
      asked.request('GET', '/healthcheck'); \
      sys.exit(asked.getresponse().status != 200)"]
# Exec form: SIGTERM reaches the program, which then drains (serve.drain, 30 s): give it longer than that.
ENTRYPOINT ["millrace"]
CMD ["serve"]
