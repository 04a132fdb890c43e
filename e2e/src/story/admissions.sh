# Ten pods over one connection, then a new one: as fast as one caller can be.
account=/var/run/secrets/kubernetes.io/serviceaccount
url="https://kubernetes.default.svc/api/v1/namespaces/$NAMESPACE/pods?pretty=false&ask=[1-10]"
trap 'exit 0' TERM
while :; do
  curl --silent --show-error --max-time 30 --cacert "$account/ca.crt" --data "$POD" \
    --header "Authorization: Bearer $(cat "$account/token")" --header 'Content-Type: application/json' "$url" 2>&1 |
    while read -r answer; do
      case "$answer" in
        *'"kind":"Pod"'*'"certmint.dev/injected":"true"'*) echo injected ;;
        *'"kind":"Pod"'*) echo 'passed over' ;;
        *) printf '%s\n' "$answer" ;;
      esac
    done
done
