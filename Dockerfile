# The scorer as an HTTP service. Bundles, keys and state are mounted as folders; the image contains none of them.
# docs/how-to/container.md shows how to run it.
# The container writes only to /state. serving/http/kubernetes.yml is an example for Kubernetes.

FROM python:3.13-slim AS build
# The image has no compiler: the build of kernel and forest brings one from a wheel (setup.py).
WORKDIR /source
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY .package/callsieve .package/callsieve
COPY features features
COPY serving serving
COPY training training
RUN python -m venv /opt/callsieve
# uv compares each package with its hash in constraints.txt. pip can do so only where callsieve itself has one, too.
RUN pip install --no-cache-dir uv
RUN uv pip install --no-cache --compile-bytecode --python=/opt/callsieve -c constraints.txt '.[serve,files]'

FROM python:3.13-slim
COPY --from=build /opt/callsieve /opt/callsieve
# A new volume inherits owner and mode from this folder.
RUN install -d -o 10001 -g 10001 -m 0700 /state
ENV PATH=/opt/callsieve/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Defaults of options. With the usual host, 127.0.0.1, a published port would not reach the service. 0.0.0.0 listens on
# every address of the container; `-p` decides who can connect.
ENV CALLSIEVE_SERVE_HOST=0.0.0.0 \
    CALLSIEVE_SERVE_PORT=8080 \
    CALLSIEVE_SERVE_BUNDLE=/srv/callsieve/bundles/current \
    CALLSIEVE_SERVE_TRUST=/srv/callsieve/trust/signer.pub \
    CALLSIEVE_SERVE_KEY=/run/secrets/callsieve/number.key \
    CALLSIEVE_SERVE_KEYS=/run/secrets/callsieve/api.keys \
    CALLSIEVE_SERVE_STATE=/state \
    CALLSIEVE_LIVE_FILL_KEY=/run/secrets/callsieve/number.key \
    CALLSIEVE_LIVE_FILL_STATE=/state
VOLUME /state
EXPOSE 8080
USER 10001:10001
# The empty ProxyHandler ignores proxy variables of the environment: the address is inside the container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/health/live', timeout=3)"]
ENTRYPOINT ["callsieve"]
CMD ["serve"]
