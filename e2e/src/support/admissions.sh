# Creates pods without a pause, and prints a line for each response. Each curl sends ten requests ([1-10] in the URL) over one
# connection.
account=/var/run/secrets/kubernetes.io/serviceaccount
url="https://kubernetes.default.svc/api/v1/namespaces/$NAMESPACE/pods?pretty=false&request=[1-10]"
trap 'exit 0' TERM
while :; do
  curl --silent --show-error --max-time 30 --cacert "$account/ca.crt" --data "$POD" \
    --header "Authorization: Bearer $(cat "$account/token")" --header 'Content-Type: application/json' "$url" 2>&1 |
    while read -r response; do
      case "$response" in
        *'"kind":"Pod"'*'"certmint.dev/injected":"true"'*) echo injected ;;
        *'"kind":"Pod"'*) echo 'not injected' ;;
        *) printf '%s\n' "$response" ;;
      esac
    done
done
